//! Tells the broker how many of this node are in a room.

use std::sync::Arc;

use crate::broker::{LogEntry, RoomStatus};
use crate::domain::RoomName;
use crate::hub::Hub;
use crate::rooms::{RoomError, Rooms};
use crate::turns::Turns;

/// Counts and tells. The counts are absolute: telling them twice, or after a while, is harmless.
#[derive(Clone, Debug)]
pub struct Members {
    hub: Arc<Hub>,
    rooms: Rooms,
    turns: Turns,
}

impl Members {
    /// For a node's connections.
    pub fn new(hub: Arc<Hub>, rooms: Rooms) -> Self {
        Self { hub, rooms, turns: Turns::default() }
    }

    /// Tells how many of this node are in the room now, and asks how the room is.
    ///
    /// # Errors
    /// [`RoomError::NotFound`], [`RoomError::Unavailable`].
    pub async fn tell(&self, room: RoomName) -> Result<RoomStatus, RoomError> {
        Ok(self.tell_and_read(room, 0).await?.0)
    }

    /// Likewise, and asks for the newest of the broker's log, descending, at most `newest`.
    ///
    /// # Errors
    /// [`RoomError::NotFound`], [`RoomError::Unavailable`].
    pub async fn tell_and_read(&self, room: RoomName, newest: usize) -> Result<(RoomStatus, Vec<LogEntry>), RoomError> {
        // Counted within its turn: a later count is told later.
        let _turn = self.turns.take(room.as_bytes()).await;
        let (guests, hosts) = self.hub.members(room);
        self.rooms.enter(room, guests, hosts, newest).await
    }
}
