//! Upgrades HTTP requests to sockets. A rejected socket is also upgraded and then closed, so that a browser can read
//! the close code (SPEC 4).
//!
//! A request receives an HTTP error instead in four cases: its path is unknown, it is not a WebSocket handshake, its
//! client sends too many handshakes, or the node is draining or cannot reach its stores. In the last case, the error
//! makes a load balancer try another node. If such requests were upgraded, the load balancer would continue to select
//! this node, because a node without open sockets has the lowest load.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::StatusCode;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::reply::Response;

use super::admission::{Admission, JoinClass, JoinPermit, Overloaded, SLOW};
use super::endpoint::Endpoint;
use super::handshake::{ACCEPT, accept_upgrade, read_handshake};
use super::metrics::{HandshakeResult, SocketKind, SocketMetrics};
use super::outbound::refuse;
use super::pace::{ByteRates, Pace};
use super::pump::{Pump, SocketEnd};
use super::stream::UpgradedStream;
use crate::accounts::limits::Limits;
use crate::backend::throttle;
use crate::chat::hub::{AddressSlot, Hub};
use crate::chat::session::{Handshake, Refusal, Session, Sessions};
use crate::http::{ApiError, Health, SlotClass, UpgradeRequest, Upgrades};
use crate::protocol::Close;

/// Timeout for the admission of a socket. Calls to unavailable stores fail earlier.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(15);

/// Handles requests under `/ws/`.
#[derive(Clone)]
pub struct Upgrader {
    /// Creates the sessions of the sockets.
    pub sessions: Arc<Sessions>,
    /// Connections of this node.
    pub hub: Arc<Hub>,
    /// Rate limits on handshakes per client address.
    pub limits: Arc<Limits>,
    /// Maximum number of sockets per client address; `None` if unlimited.
    pub address_sockets: Option<u32>,
    /// Maximum read rates per socket and per client address.
    pub byte_rates: ByteRates,
    /// Maximum size of a client's message, in bytes.
    pub max_message: usize,
    /// Cancelled when the node starts to drain. From then on, handshakes are rejected.
    pub draining: CancellationToken,
    /// Limits the number of concurrent joins.
    pub admission: Arc<Admission>,
    /// Reports whether the stores that sockets need are available.
    pub health: Arc<dyn Health>,
    /// Tracks the tasks of the sockets.
    pub tracker: TaskTracker,
    /// Metrics of sockets.
    pub(crate) metrics: Arc<SocketMetrics>,
}

impl Upgrades for Upgrader {
    fn upgrade(&self, request: UpgradeRequest) -> BoxFuture<'static, Response> {
        let answer = self.answer(request);
        async move { answer }.boxed()
    }
}

impl Upgrader {
    fn answer(&self, mut request: UpgradeRequest) -> Response {
        let Some(endpoint) = Endpoint::of(&request.path) else {
            return ApiError::NotFound.into_response();
        };
        let (accept, on_upgrade) = match accept_upgrade(&request.headers, request.on_upgrade.take()) {
            Ok(handshake) => handshake,
            Err(refusal) => return *refusal,
        };
        if self.draining.is_cancelled() {
            self.count(&endpoint, HandshakeResult::Draining);
            return ApiError::Unavailable.into_response();
        }
        if !self.health.has_stores() {
            self.count(&endpoint, HandshakeResult::NotReady);
            return ApiError::Unavailable.into_response();
        }
        if let Err(above) = self.limits.handshake(request.peer) {
            self.count(&endpoint, HandshakeResult::Limited);
            return ApiError::from(above).into_response();
        }
        let handshake = read_handshake(&request);
        self.tracker.spawn(self.clone().connect(on_upgrade, endpoint, handshake, request.peer));
        switching_protocols(accept)
    }

    /// Serves a socket until it ends. The future of an open socket contains only what the socket needs: the handshake
    /// and the join are boxed and freed before the socket is served, and the socket is boxed and therefore not moved
    /// between futures, each of which would reserve memory for it.
    fn connect(
        self,
        on_upgrade: OnUpgrade,
        endpoint: Endpoint,
        handshake: Handshake,
        address: IpAddr,
    ) -> impl Future<Output = ()> + Send {
        let opening = Box::pin(self.open(on_upgrade, endpoint, handshake, address));
        async move {
            if let Some(mut socket) = opening.await {
                let end = socket.pump.run().await;
                Box::pin(socket.finish(end)).await;
            }
        }
    }

    async fn open(
        self,
        on_upgrade: OnUpgrade,
        endpoint: Endpoint,
        handshake: Handshake,
        address: IpAddr,
    ) -> Option<Box<OpenSocket>> {
        let stream = UpgradedStream::open(on_upgrade).await?;
        let (slot, admitted) = match self.slot(&stream, address) {
            Ok(slot) => (Some(slot), self.enter(&stream, &endpoint, &handshake, address).await),
            Err(close) => (None, Err(AdmissionError::Refused(close.into()))),
        };
        self.count(&endpoint, result_of(&admitted));
        match admitted {
            Ok(session) => {
                let pace = Pace::new(self.byte_rates, slot.as_ref());
                let count = OpenCount::new(self.metrics.clone(), kind(&session));
                let pump = Pump::new(stream, session, self.max_message, pace, self.metrics);
                Some(Box::new(OpenSocket { pump, count, slot }))
            }
            Err(error) => {
                Box::pin(refuse_with(stream, error, &self.metrics)).await;
                None
            }
        }
    }

    fn count(&self, endpoint: &Endpoint, result: HandshakeResult) {
        self.metrics.handshakes.get((endpoint.kind(), result)).increment(1);
    }

    /// Counts a socket towards the limit of its client address. Returns a close if the connection has a reserved slot
    /// or its address has reached the limit.
    fn slot(&self, stream: &UpgradedStream, address: IpAddr) -> Result<AddressSlot, Close> {
        match stream.slot.class() {
            SlotClass::Served => {}
            SlotClass::OverAddress => return Err(Close::TooMany),
            SlotClass::OverNode => {
                let retry = Duration::from_millis(1_000 + self.sessions.rng.below(4_000));
                return Err(Close::TryLater { retry });
            }
        }
        self.hub.admit_address(throttle::network(address), self.address_sockets).ok_or(Close::TooMany)
    }

    /// Waits for a permit, then joins. Calls no store before the permit is granted.
    async fn enter(
        &self,
        stream: &UpgradedStream,
        endpoint: &Endpoint,
        handshake: &Handshake,
        address: IpAddr,
    ) -> Result<Session, AdmissionError> {
        let is_established = handshake.after.is_some() || handshake.token.is_some();
        let class = if is_established { JoinClass::Established } else { JoinClass::Fresh };
        let permit = tokio::select! {
            biased;
            permit = self.admission.enter(throttle::network(address), class) => permit.map_err(AdmissionError::Overloaded)?,
            () = self.draining.cancelled() => {
                let retry = Duration::from_millis(1_000 + self.sessions.rng.below(4_000));
                return Err(AdmissionError::Refused(Close::Restarting { retry }.into()));
            }
        };
        if stream.has_ended() {
            return Err(AdmissionError::Disconnected);
        }
        // The future of a join is large, so it exists only while the join has a permit.
        Box::pin(self.admit(endpoint, handshake, permit)).await.map_err(AdmissionError::Refused)
    }

    async fn admit(
        &self,
        endpoint: &Endpoint,
        handshake: &Handshake,
        mut permit: JoinPermit,
    ) -> Result<Session, Refusal> {
        let admission = async {
            match endpoint {
                Endpoint::Chat(name) => self.sessions.open_chat(name, handshake).await.map(Session::Chat),
                Endpoint::Status(host) => self.sessions.open_status(host, handshake).await.map(Session::Status),
            }
        };
        let mut admission = pin!(tokio::time::timeout(ADMISSION_TIMEOUT, admission));
        let admitted = tokio::select! {
            biased;
            admitted = admission.as_mut() => admitted,
            () = tokio::time::sleep(SLOW) => {
                permit.yield_to_next();
                admission.await
            }
        };
        match admitted {
            Ok(admitted) => admitted,
            Err(_) => Err(Close::TryLater { retry: Duration::from_secs(2) }.into()),
        }
    }
}

/// A socket that has a session.
struct OpenSocket {
    pump: Pump,
    count: OpenCount,
    slot: Option<AddressSlot>,
}

impl OpenSocket {
    async fn finish(self: Box<Self>, end: SocketEnd) {
        let Self { pump, count, slot } = *self;
        pump.finish(end).await;
        drop((count, slot));
    }
}

/// Counts an open socket until it is dropped.
struct OpenCount {
    metrics: Arc<SocketMetrics>,
    kind: SocketKind,
}

impl OpenCount {
    fn new(metrics: Arc<SocketMetrics>, kind: SocketKind) -> Self {
        metrics.connections.get(kind).increment(1.0);
        Self { metrics, kind }
    }
}

impl Drop for OpenCount {
    fn drop(&mut self) {
        self.metrics.connections.get(self.kind).decrement(1.0);
    }
}

/// Returns the response that completes a handshake.
fn switching_protocols(accept: HeaderValue) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(ACCEPT, accept);
    response
}

/// Reason why a handshake did not result in a session.
enum AdmissionError {
    Refused(Refusal),
    Overloaded(Overloaded),
    /// The peer disconnected while its join was waiting.
    Disconnected,
}

fn result_of(admitted: &Result<Session, AdmissionError>) -> HandshakeResult {
    match admitted {
        Ok(_) => HandshakeResult::Admitted,
        Err(AdmissionError::Overloaded(_)) => HandshakeResult::Overloaded,
        Err(AdmissionError::Refused(Refusal { close: Close::TryLater { .. }, .. })) => HandshakeResult::Unavailable,
        Err(AdmissionError::Refused(_) | AdmissionError::Disconnected) => HandshakeResult::Refused,
    }
}

/// Closes a socket that was not admitted.
async fn refuse_with(stream: UpgradedStream, error: AdmissionError, metrics: &SocketMetrics) {
    let (frames, close) = match error {
        AdmissionError::Refused(Refusal { frame, close }) => (frame.into_iter().collect(), close),
        AdmissionError::Overloaded(Overloaded { retry }) => (VecDeque::new(), Close::TryLater { retry }),
        AdmissionError::Disconnected => return,
    };
    metrics.count_close(close);
    refuse(stream, frames, close).await;
}

fn kind(session: &Session) -> SocketKind {
    match (session, session.connection().side().is_host()) {
        (Session::Chat(_), false) => SocketKind::ChatGuest,
        (Session::Chat(_), true) => SocketKind::ChatHost,
        (Session::Status(_), false) => SocketKind::StatusGuest,
        (Session::Status(_), true) => SocketKind::StatusHost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the size of the future that a function returns.
    fn size_of_future<A, B, C, D, E, F: Future>(_: impl FnOnce(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_open_socket_holds_no_memory_of_its_handshake_and_join() {
        let (task, socket) = (size_of_future(Upgrader::connect), size_of::<OpenSocket>());
        assert!(task <= 512, "{task}");
        assert!(socket <= 1_024, "{socket}");
    }
}
