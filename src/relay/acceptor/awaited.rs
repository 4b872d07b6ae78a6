//! Accepted messages on their way back to their senders.

use std::sync::Arc;

use tokio::time::Instant;

use crate::domain::{RoomName, Seq};
use crate::hub::Connection;

/// An accepted message until its sender has received it.
pub(super) struct Awaited {
    /// When the room reads the log.
    pub(super) deadline: Instant,
    /// When the sender is disconnected.
    pub(super) give_up: Instant,
    pub(super) room: RoomName,
    pub(super) connection: Arc<Connection>,
    pub(super) seq: Seq,
}

impl Awaited {
    pub(super) fn is_settled(&self) -> bool {
        self.connection.sent() >= self.seq || self.connection.is_ending()
    }
}
