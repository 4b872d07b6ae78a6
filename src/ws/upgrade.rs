//! The upgrade from an HTTP request to a socket. A refused connection is still upgraded and then closed, so that a
//! browser can read the code (SPEC 4). HTTP errors are used for requests that are no WebSocket handshake, for too many
//! handshakes, and for a node that is draining or lacks its stores. A load balancer then tries the next node; with an
//! upgrade it would keep choosing this one, which always has the fewest sockets.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{CONNECTION, HeaderName, HeaderValue, ORIGIN, UPGRADE};
use http::{HeaderMap, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::reply::Response;

use super::admission::{Admission, Lane, Overloaded, Place, SLOW};
use super::metrics::{HandshakeKind, HandshakeResult, SocketKind, SocketMetrics};
use super::outbound::refuse;
use super::pace::{ByteRates, Pace};
use super::pump::Pump;
use crate::accounts::limits::Limits;
use crate::backend::throttle;
use crate::chat::hub::{AddressSlot, Hub};
use crate::chat::session::{Handshake, Refusal, Session, Sessions, wants_extras};
use crate::http::{ApiError, Class, Health, PeerStream, Slot, UpgradeRequest, Upgrades};
use crate::protocol::{Close, frame};

const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");
const VERSION: HeaderName = HeaderName::from_static("sec-websocket-version");

/// Time limit of an admission. Calls to unavailable stores fail earlier.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(15);

/// Handles requests under `/ws/`.
#[derive(Clone)]
pub struct Upgrader {
    /// Creates the sessions.
    pub sessions: Arc<Sessions>,
    /// This node's connections.
    pub hub: Arc<Hub>,
    /// Rate limits of handshakes per address.
    pub limits: Arc<Limits>,
    /// Maximum sockets per address; `None`: unlimited.
    pub address_sockets: Option<u32>,
    /// Maximum rates of reading, per socket and per address.
    pub byte_rates: ByteRates,
    /// Maximum size of a client's message, in bytes.
    pub max_message: usize,
    /// Cancelled when the node drains: handshakes are refused from then on.
    pub draining: CancellationToken,
    /// Limits concurrent joins.
    pub admission: Arc<Admission>,
    /// Whether the node has its stores.
    pub health: Arc<dyn Health>,
    /// Tracks the tasks of sockets.
    pub tracker: TaskTracker,
    /// Metrics of sockets.
    pub(crate) metrics: Arc<SocketMetrics>,
}

/// Kind of socket, with the name in the path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Door {
    Chat(String),
    Status(String),
}

impl Door {
    fn of(path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        match segments.as_slice() {
            ["ws", "chat", name] => Some(Self::Chat((*name).to_owned())),
            ["ws", "chat", host, "status"] | ["ws", "status", host] => Some(Self::Status((*host).to_owned())),
            _ => None,
        }
    }

    fn kind(&self) -> HandshakeKind {
        match self {
            Self::Chat(_) => HandshakeKind::Chat,
            Self::Status(_) => HandshakeKind::Status,
        }
    }
}

impl Upgrades for Upgrader {
    fn upgrade(&self, request: UpgradeRequest) -> BoxFuture<'static, Response> {
        let answer = self.answer(request);
        async move { answer }.boxed()
    }
}

impl Upgrader {
    fn answer(&self, mut request: UpgradeRequest) -> Response {
        let Some(door) = Door::of(&request.path) else {
            return ApiError::NotFound.into_response();
        };
        let (accept, on_upgrade) = match handshake_of(&request.headers, request.on_upgrade.take()) {
            Ok(handshake) => handshake,
            Err(refusal) => return *refusal,
        };
        if self.draining.is_cancelled() {
            self.count(&door, HandshakeResult::Draining);
            return ApiError::Unavailable.into_response();
        }
        if !self.health.has_stores() {
            self.count(&door, HandshakeResult::NotReady);
            return ApiError::Unavailable.into_response();
        }
        if let Err(above) = self.limits.handshake(request.peer) {
            self.count(&door, HandshakeResult::Limited);
            return ApiError::from(above).into_response();
        }
        let handshake = read_handshake(&request);
        self.tracker.spawn(self.clone().connect(on_upgrade, door, handshake, request.peer));
        let mut response = Response::default();
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(ACCEPT, accept);
        response
    }

    async fn connect(self, on_upgrade: OnUpgrade, door: Door, handshake: Handshake, address: IpAddr) {
        let Some(stream) = open(on_upgrade).await else { return };
        // The join needs far more memory than an open socket. It is boxed, and freed before the socket is served.
        let (slot, admitted) = match self.slot(&stream, address) {
            Ok(slot) => (Some(slot), Box::pin(self.enter(&stream, &door, &handshake, address)).await),
            Err(close) => (None, Err(NotIn::Refused(close.into()))),
        };
        let result = match &admitted {
            Ok(_) => HandshakeResult::Admitted,
            Err(NotIn::Overloaded(_)) => HandshakeResult::Overloaded,
            Err(NotIn::Refused(_) | NotIn::Gone) => HandshakeResult::Refused,
        };
        self.count(&door, result);
        drop((door, handshake));
        match admitted {
            Ok(session) => {
                let (max_message, pace) = (self.max_message, Pace::new(self.byte_rates, slot.as_ref()));
                let metrics = self.metrics.clone();
                drop(self);
                let open = metrics.connections.get(kind(&session));
                open.increment(1.0);
                Pump::new(stream, session, max_message, pace, metrics.clone()).run().await;
                open.decrement(1.0);
            }
            Err(NotIn::Refused(Refusal { frame, close })) => {
                self.metrics.count_close(close);
                refuse(stream, frame.into_iter().collect(), close).await;
            }
            Err(NotIn::Overloaded(Overloaded { retry })) => {
                let close = Close::TryLater { retry };
                self.metrics.count_close(close);
                refuse(stream, VecDeque::new(), close).await;
            }
            Err(NotIn::Gone) => {}
        }
        drop(slot);
    }

    fn count(&self, door: &Door, result: HandshakeResult) {
        self.metrics.handshakes.get((door.kind(), result)).increment(1);
    }

    /// Counts a socket of an address. Refuses it if its connection or the address exceeds a limit.
    fn slot(&self, stream: &Stream, address: IpAddr) -> Result<AddressSlot, Close> {
        match stream.slot.class() {
            Class::Served => {}
            Class::OverAddress => return Err(Close::TooMany),
            Class::OverNode => {
                let retry = Duration::from_millis(1_000 + self.sessions.chance.below(4_000));
                return Err(Close::TryLater { retry });
            }
        }
        self.hub.admit_address(throttle::network(address), self.address_sockets).ok_or(Close::TooMany)
    }

    /// Waits for a place among the joins, then joins. No store is called before that.
    async fn enter(
        &self,
        stream: &Stream,
        door: &Door,
        handshake: &Handshake,
        address: IpAddr,
    ) -> Result<Session, NotIn> {
        let is_established = handshake.after.is_some() || handshake.token.is_some();
        let lane = if is_established { Lane::Established } else { Lane::Fresh };
        let place = tokio::select! {
            biased;
            place = self.admission.enter(throttle::network(address), lane) => place.map_err(NotIn::Overloaded)?,
            () = self.draining.cancelled() => {
                let retry = Duration::from_millis(1_000 + self.sessions.chance.below(4_000));
                return Err(NotIn::Refused(Close::Restarting { retry }.into()));
            }
        };
        if has_ended(&stream.tcp) {
            return Err(NotIn::Gone);
        }
        self.admit(door, handshake, place).await.map_err(NotIn::Refused)
    }

    async fn admit(&self, door: &Door, handshake: &Handshake, mut place: Place) -> Result<Session, Refusal> {
        let admission = async {
            match door {
                Door::Chat(name) => self.sessions.open_chat(name, handshake).await.map(Session::Chat),
                Door::Status(host) => self.sessions.open_status(host, handshake).await.map(Session::Status),
            }
        };
        let mut admission = pin!(tokio::time::timeout(ADMISSION_TIMEOUT, admission));
        let admitted = tokio::select! {
            biased;
            admitted = admission.as_mut() => admitted,
            () = tokio::time::sleep(SLOW) => {
                place.yield_to_next();
                admission.await
            }
        };
        match admitted {
            Ok(admitted) => admitted,
            Err(_) => Err(Close::TryLater { retry: Duration::from_secs(2) }.into()),
        }
    }
}

/// Why a handshake led to no session.
enum NotIn {
    Refused(Refusal),
    Overloaded(Overloaded),
    /// The peer disconnected while it waited.
    Gone,
}

/// Whether a peer has disconnected. Bytes that it sent stay in the kernel.
fn has_ended(tcp: &TcpStream) -> bool {
    matches!(tcp.peek(&mut [0]).now_or_never(), Some(Ok(0) | Err(_)))
}

fn kind(session: &Session) -> SocketKind {
    match (session, session.connection().side().is_host()) {
        (Session::Chat(_), false) => SocketKind::ChatGuest,
        (Session::Chat(_), true) => SocketKind::ChatHost,
        (Session::Status(_), false) => SocketKind::StatusGuest,
        (Session::Status(_), true) => SocketKind::StatusHost,
    }
}

/// Returns the value of `Sec-WebSocket-Accept` and the pending upgrade, or the response to a request that is no
/// handshake.
fn handshake_of(headers: &HeaderMap, on_upgrade: Option<OnUpgrade>) -> Result<(HeaderValue, OnUpgrade), Box<Response>> {
    let no_handshake = || Box::new(ApiError::Malformed("This is a WebSocket: connect to it as one.").into_response());
    let on_upgrade = on_upgrade.ok_or_else(no_handshake)?;
    if !has_token(headers, &UPGRADE, "websocket") || !has_token(headers, &CONNECTION, "upgrade") {
        return Err(no_handshake());
    }
    if headers.get(VERSION).map(HeaderValue::as_bytes) != Some(b"13") {
        let mut response = ApiError::Malformed("Only version 13 of WebSocket is spoken here.").into_response();
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        response.headers_mut().insert(VERSION, HeaderValue::from_static("13"));
        return Err(Box::new(response));
    }
    let key =
        headers.get(KEY).and_then(|key| key.to_str().ok()).filter(|key| key.len() == 24).ok_or_else(no_handshake)?;
    let accept = HeaderValue::try_from(frame::accept_key(key)).map_err(|_| no_handshake())?;
    Ok((accept, on_upgrade))
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// Returns the value of a header that may occur once; `None` if it is absent or repeated.
fn only_one(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().map(str::to_owned),
        _ => None,
    }
}

fn read_handshake(request: &UpgradeRequest) -> Handshake {
    let mut handshake = Handshake { origin: only_one(&request.headers, &ORIGIN), ..Handshake::default() };
    for (name, value) in url::form_urlencoded::parse(request.query.as_bytes()) {
        match &*name {
            "token" => handshake.token = Some(value.into_owned()),
            "after" => handshake.after = Some(value.into_owned()),
            "v" => handshake.extras = wants_extras(&value),
            _ => {}
        }
    }
    handshake
}

/// Returns the TCP stream under an upgraded connection, with the bytes that hyper has already read after the handshake.
/// `None` if the peer disconnected.
async fn open(on_upgrade: OnUpgrade) -> Option<Stream> {
    let upgraded: Upgraded = match on_upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "peer disconnected during handshake");
            return None;
        }
    };
    match upgraded.downcast::<TokioIo<PeerStream>>() {
        Ok(parts) => {
            let (tcp, slot) = parts.io.into_inner().into_parts();
            Some(Stream { tcp, early: parts.read_buf.to_vec(), slot })
        }
        Err(_) => {
            tracing::error!("upgraded connection is not the accepted stream");
            None
        }
    }
}

/// Upgraded TCP stream plus any bytes received after the handshake.
pub(super) struct Stream {
    pub(super) tcp: TcpStream,
    pub(super) early: Vec<u8>,
    /// Counts the connection while it is open.
    pub(super) slot: Arc<Slot>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_two_paths_and_a_room_one() {
        assert_eq!(Door::of("/ws/chat/abc"), Some(Door::Chat("abc".into())));
        assert_eq!(Door::of("/ws/chat/abc/"), Some(Door::Chat("abc".into())));
        assert_eq!(Door::of("/ws/chat/abc/status"), Some(Door::Status("abc".into())));
        assert_eq!(Door::of("/ws/status/abc"), Some(Door::Status("abc".into())));
        for nothing in ["/ws", "/ws/chat", "/ws/chat/a/b", "/ws/other/a"] {
            assert_eq!(Door::of(nothing), None, "{nothing}");
        }
    }
}
