//! The accept loop. warp's own has no time limit on a request's head and no way to end gracefully with sockets open.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, ready};
use http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::reply::Response;
use warp::{Filter, Rejection};

use super::operation::METRICS_TYPE;
use super::peer::Peer;
use super::{HttpContext, RenderMetrics, authority, filter, reply};

/// How long a peer may take for the head of a request, the silence before it included: also what bounds keep-alive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest head, and what a connection may buffer, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// What the kernel keeps for a peer that does not read, in bytes; it takes twice as much for itself. Left alone it would take
/// 4 MB, for each who stopped reading.
const SEND_BUFFER: usize = 32 * 1024;

/// How long to wait when the process has no more file descriptors: some connection will end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`: then takes no more connections, and returns when all calls in flight are answered. Connections
/// live on `tracker`. Sockets are not waited for: they belong to whoever upgraded them.
pub async fn serve(listener: TcpListener, app: HttpContext, shutdown: CancellationToken, tracker: TaskTracker) {
    run(listener, filter(Arc::new(app)), HEAD_TIMEOUT, shutdown, tracker).await;
}

/// Serves nothing but the metrics, to anybody who reaches the port: `metrics-listen`.
pub async fn serve_metrics(
    listener: TcpListener,
    metrics: RenderMetrics,
    shutdown: CancellationToken,
    tracker: TaskTracker,
) {
    let page = warp::path!("metrics").and(warp::get().or(warp::head()).unify());
    let page = page.map(move || reply::text(StatusCode::OK, METRICS_TYPE, metrics().into()));
    run(listener, page, HEAD_TIMEOUT, shutdown, tracker).await;
}

async fn run<F>(
    listener: TcpListener,
    filter: F,
    head_timeout: Duration,
    shutdown: CancellationToken,
    tracker: TaskTracker,
) where
    F: Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + 'static,
{
    // Whoever connects inherits it.
    if let Err(error) = SockRef::from(&listener).set_send_buffer_size(SEND_BUFFER) {
        tracing::warn!(%error, "the kernel's buffers stay as large as they like");
    }
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(stream, peer, filter.clone(), head_timeout, shutdown.clone());
                tracker.spawn(connections.track_future(connection));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection<F>(
    stream: TcpStream,
    peer: SocketAddr,
    filter: F,
    head_timeout: Duration,
    shutdown: CancellationToken,
) where
    F: Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + 'static,
{
    // Frames and answers are written whole: nothing is gained by holding the last segment back.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    // hyper's own time limit begins with the first byte.
    let spoke = tokio::select! {
        () = shutdown.cancelled() => return,
        spoke = tokio::time::timeout(head_timeout, stream.readable()) => spoke,
    };
    if !matches!(spoke, Ok(Ok(()))) {
        return;
    }
    let inner = TowerToHyperService::new(warp::service(filter));
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        let is_last = authority::is_last(&request);
        request.extensions_mut().insert(Peer(peer));
        let answered = match authority::refusal(&request) {
            Some(refusal) => Either::Left(ready(Ok(refusal))),
            None => Either::Right(inner.call(request)),
        };
        async move {
            let mut response = answered.await.unwrap_or_else(|never: Infallible| match never {});
            if is_last {
                authority::close(&mut response);
            }
            Ok::<Response, Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head_timeout).max_buf_size(MAX_HEAD);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        // Peers break off all the time; only who looks for it wants to read it.
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests;
