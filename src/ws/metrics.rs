//! Metrics of WebSockets.

use metrics::{Counter, Label};

use crate::domain::metric::{Family, Gauge, LabelDescription, OpenFamily, OpenLabels, label, metric_set};
use crate::protocol::Close;

metric_set! {
    /// Metrics of sockets.
    pub(crate) struct SocketMetrics {
        /// Open sockets.
        connections: Family<Gauge, SocketKind> = "pintalk_connections", Count;
        /// WebSocket handshakes; `limited` received 429, `draining` and `not_ready` 503, `overloaded` 1013 because too
        /// many joins waited, `unavailable` 1013 because a store did not answer or the node had no free connection;
        /// `refused`: closed with another code, or by the peer.
        handshakes: Family<Counter, (HandshakeKind, HandshakeResult)> = "pintalk_handshakes_total", Count;
        /// Closed sockets by close code; `peer`: the peer closed or lost the connection.
        closes: OpenFamily<Counter, ClosedBy> = "pintalk_closes_total", Count;
    }
}

metric_set! {
    /// Metrics of the admission of joins.
    pub(crate) struct JoinMetrics {
        /// Upgraded sockets that wait to join their room or status.
        waiting: Gauge = "pintalk_joins_waiting", Count;
    }
}

label! {
    /// Kind of an open socket.
    pub(crate) enum SocketKind = "kind" {
        ChatGuest = "chat_guest",
        ChatHost = "chat_host",
        StatusGuest = "status_guest",
        StatusHost = "status_host",
    }
}

label! {
    /// Kind of socket that a handshake requests.
    pub(crate) enum HandshakeKind = "kind" {
        Chat = "chat",
        Status = "status",
    }
}

label! {
    /// Result of a handshake.
    pub(crate) enum HandshakeResult = "result" {
        Admitted = "admitted",
        Limited = "limited",
        Draining = "draining",
        NotReady = "not_ready",
        Refused = "refused",
        Overloaded = "overloaded",
        Unavailable = "unavailable",
    }
}

impl SocketMetrics {
    /// Counts a socket that the node closed.
    pub(crate) fn count_close(&self, close: Close) {
        self.closes.find(ClosedBy::Node(close)).increment(1);
    }
}

/// Side that closed a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ClosedBy {
    /// The peer closed the socket or disconnected.
    Peer,
    /// The node closed the socket, or answered the close frame of the peer.
    Node(Close),
}

impl OpenLabels for ClosedBy {
    const LABELS: &'static [LabelDescription] = &[LabelDescription { name: "code", values: &[] }];

    fn labels(self) -> Vec<Label> {
        vec![match self {
            Self::Peer => Label::from_static_parts("code", "peer"),
            Self::Node(close) => Label::new("code", close.code().to_string()),
        }]
    }
}
