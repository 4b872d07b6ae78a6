//! Accept loop with a bounded number of connections, a timeout for each phase of a connection, and a graceful shutdown.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Method, StatusCode};
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
use super::pre_routing::PreRouting;
use super::{ApiError, HttpContext, RenderMetrics, authority, filter, reply};

mod descriptors;
mod slots;
mod stream;

pub use descriptors::raise_descriptor_limit;
use slots::SlotAdmission;
pub use slots::Slots;
pub(crate) use slots::{Slot, SlotClass};
pub(crate) use stream::PeerStream;
use stream::{Activity, CallBody, Timeouts};

/// Timeout for the first byte of a connection, and for each request head. The timeout for a request head starts at its
/// first byte.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout that replaces [`HEAD_TIMEOUT`] for a connection in a reserved slot.
const RESERVED_HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum size of a request head and of the read buffer of a connection, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Size of the kernel's send buffer per connection, in bytes. The kernel allocates twice this size. By default, the
/// buffer of a connection whose peer stops reading would grow to 4 MB.
const SEND_BUFFER: usize = 32 * 1024;

/// Delay after a failed accept. If no file descriptor was available, connections that end during the delay free some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Number of idle connections to close when no file descriptor is available.
const SHED_AT_ONCE: usize = 8;

/// Connection settings of a listener.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// Limits the number of connections.
    pub slots: Arc<Slots>,
    /// Maximum time for which an idle connection is kept open.
    pub keep_alive: Duration,
    /// When cancelled, every response closes its connection, because the node will soon stop accepting connections.
    pub draining: CancellationToken,
}

/// Serves until `shutdown` is cancelled, then accepts no more connections. Returns when all calls in flight have been
/// answered. Connections run on `tracker`. Does not wait for upgraded sockets, because the `Upgrades` handler owns
/// them.
pub async fn serve(
    listener: TcpListener,
    app: HttpContext,
    serving: ListenerSettings,
    shutdown: CancellationToken,
    tracker: TaskTracker,
) {
    let app = Arc::new(app);
    let pre_routing = PreRouting::new(app.clone());
    run(listener, filter(app), pre_routing, serving, HEAD_TIMEOUT, shutdown, tracker).await;
}

/// Serves only the metrics, to every peer that can reach the port (`metrics-listen`).
pub async fn serve_metrics(
    listener: TcpListener,
    metrics: RenderMetrics,
    serving: ListenerSettings,
    shutdown: CancellationToken,
    tracker: TaskTracker,
) {
    let page = warp::path!("metrics").and(warp::get().or(warp::head()).unify());
    let page = page.map(move || reply::text(StatusCode::OK, METRICS_TYPE, metrics().into()));
    run(listener, page, PreRouting::default(), serving, HEAD_TIMEOUT, shutdown, tracker).await;
}

async fn run<F>(
    listener: TcpListener,
    filter: F,
    pre_routing: PreRouting,
    serving: ListenerSettings,
    head_timeout: Duration,
    shutdown: CancellationToken,
    tracker: TaskTracker,
) where
    F: Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + 'static,
{
    // Accepted connections inherit this option from the listener.
    if let Err(error) = SockRef::from(&listener).set_send_buffer_size(SEND_BUFFER) {
        tracing::warn!(%error, "failed to set socket send buffer size");
    }
    let connections = TaskTracker::new();
    let mut is_failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                is_failing = false;
                let timeouts = Timeouts { head: head_timeout, keep_alive: serving.keep_alive };
                let ends = Ends { shutdown: shutdown.clone(), draining: serving.draining.clone() };
                let (filter, pre_routing) = (filter.clone(), pre_routing.clone());
                match serving.slots.admit(peer.ip()) {
                    SlotAdmission::Now(slot) => {
                        let connection = connection(stream, peer, slot, filter, pre_routing, timeouts, ends);
                        tracker.spawn(connections.track_future(connection));
                    }
                    SlotAdmission::Later(queued) => {
                        tracker.spawn(connections.track_future(async move {
                            if let Some(slot) = queued.admit().await {
                                connection(stream, peer, slot, filter, pre_routing, timeouts, ends).await;
                            }
                        }));
                    }
                    SlotAdmission::Never => {}
                }
            }
            Err(error) => {
                // Only the first of consecutive failures is logged.
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(%error, "failed to accept connection, retrying");
                }
                serving.slots.shed(SHED_AT_ONCE);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Tokens that end a connection.
struct Ends {
    /// Ends the connection after the call in flight.
    shutdown: CancellationToken,
    /// Ends the connection after its next response.
    draining: CancellationToken,
}

async fn connection<F>(
    stream: TcpStream,
    peer: SocketAddr,
    slot: Arc<Slot>,
    filter: F,
    pre_routing: PreRouting,
    timeouts: Timeouts,
    Ends { shutdown, draining }: Ends,
) where
    F: Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + 'static,
{
    // Frames and responses are written as a whole, so Nagle's algorithm would only delay their last segment.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut timeouts = timeouts;
    if slot.class() != SlotClass::Served {
        timeouts.head = timeouts.head.min(RESERVED_HEAD_TIMEOUT);
    }
    // The task waits for the first byte before hyper allocates a buffer. A connection without a request therefore has
    // no buffer.
    let first_byte = tokio::select! {
        biased;
        first_byte = tokio::time::timeout(timeouts.head, stream.readable()) => first_byte,
        () = shutdown.cancelled() => return,
        () = slot.shed() => return,
    };
    if !matches!(first_byte, Ok(Ok(()))) {
        return;
    }
    let activity = Activity::new(slot.clone());
    let inner = TowerToHyperService::new(warp::service(filter));
    let service = service_fn(|mut request: http::Request<Incoming>| {
        let call = activity.begin_call();
        let is_last = authority::is_last(&request);
        pre_routing.strip_prefix(&mut request);
        let mut refused = authority::refusal(&request)
            .or_else(|| refusal(&slot, request.method(), request.uri().path()).map(ApiError::into_response));
        if let Some(refused) = &mut refused {
            pre_routing.add_common_headers(refused, &request);
        }
        request.extensions_mut().insert(Peer(peer));
        let (inner, activity, draining) = (inner.clone(), activity.clone(), draining.clone());
        async move {
            let mut response = match refused {
                Some(refused) => refused,
                None => inner.call(request).await.unwrap_or_else(|never| match never {}),
            };
            let is_last = is_last
                || activity.is_closing()
                || draining.is_cancelled()
                || activity.slot().class() != SlotClass::Served;
            if is_last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(|body| CallBody { body, _call: call }))
        }
    });
    let stream = PeerStream::new(stream, activity.clone(), timeouts);
    let mut builder = http1::Builder::new();
    // `PeerStream` enforces the timeouts. The timeout of hyper would also close idle connections that wait for their
    // next request.
    builder.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let mut is_ending = false;
    let served = loop {
        tokio::select! {
            served = serving.as_mut() => break served,
            () = shutdown.cancelled(), if !is_ending => {
                is_ending = true;
                activity.close();
            }
            () = slot.shed() => activity.shed(),
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "failed to serve connection");
    }
}

/// Returns the error response to a request on a connection in a reserved slot, or `None` if the request is permitted. A
/// WebSocket is upgraded if [`Slot::may_upgrade`] permits it, so that a browser can read the close code. A preflight is
/// answered, so that a page can read the error response to its call.
fn refusal(slot: &Slot, method: &Method, path: &str) -> Option<ApiError> {
    let is_for_operators = path.starts_with("/health/") || path == "/metrics" || path == "/metrics/";
    if is_for_operators || method == Method::OPTIONS || path.starts_with("/ws/") && slot.may_upgrade() {
        return None;
    }
    match slot.class() {
        SlotClass::Served => None,
        SlotClass::OverAddress => Some(ApiError::TooMany { retry_after: 10 }),
        SlotClass::OverNode => Some(ApiError::Unavailable),
    }
}

#[cfg(test)]
mod tests;
