//! Tells the broker how many of this node are in a room.

use std::sync::Arc;

use crate::broker::RoomStatus;
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
        // Counted within its turn: a later count is told later.
        let _turn = self.turns.take(room.as_bytes()).await;
        let (guests, hosts) = self.hub.members(room);
        self.rooms.set_members(room, guests, hosts).await
    }
}
