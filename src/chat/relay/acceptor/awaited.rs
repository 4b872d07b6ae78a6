//! Accepted messages that their senders have not received yet.

use std::sync::Arc;

use tokio::time::Instant;

use crate::chat::hub::Connection;
use crate::domain::{RoomName, Seq};

/// Accepted message that its sender has not received yet.
pub(super) struct Awaited {
    /// Time at which the connections in the room read the log.
    pub(super) deadline: Instant,
    /// Time at which the sender is disconnected.
    pub(super) give_up: Instant,
    pub(super) room: RoomName,
    pub(super) connection: Arc<Connection>,
    pub(super) seq: Seq,
}

impl Awaited {
    pub(super) fn is_settled(&self) -> bool {
        self.connection.sent() >= self.seq || self.connection.is_closing()
    }
}
