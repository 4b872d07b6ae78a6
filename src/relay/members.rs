//! Tells the broker how many of this node are in a room.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::broker::RoomStatus;
use crate::domain::RoomName;
use crate::hub::Hub;
use crate::rooms::{RoomError, Rooms};

/// How many rooms may be told at the same time. A room has one place, so that its counts arrive in order.
const PLACES: usize = 256;

/// Counts and tells. The counts are absolute: telling them twice, or after a while, is harmless.
#[derive(Clone, Debug)]
pub struct Members {
    hub: Arc<Hub>,
    rooms: Rooms,
    places: Arc<[Mutex<()>]>,
}

impl Members {
    /// For a node's connections.
    pub fn new(hub: Arc<Hub>, rooms: Rooms) -> Self {
        Self { hub, rooms, places: (0..PLACES).map(|_| Mutex::new(())).collect() }
    }

    /// Tells how many of this node are in the room now, and asks how the room is.
    ///
    /// # Errors
    /// [`RoomError::NotFound`], [`RoomError::Unavailable`].
    pub async fn tell(&self, room: RoomName) -> Result<RoomStatus, RoomError> {
        let place =
            room.as_bytes().iter().fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(*byte)));
        let _one_at_a_time = self.places[place % PLACES].lock().await;
        let (guests, hosts) = self.hub.members(room);
        self.rooms.set_members(room, guests, hosts).await
    }
}
