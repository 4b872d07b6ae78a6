//! Tells the broker how many of this node are in a room.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::{LogEntry, RoomStatus};
use crate::domain::RoomName;
use crate::hub::Hub;
use crate::rooms::{RoomError, Rooms};
use crate::turns::Turns;

/// How long it may take until the broker hears that somebody has left. When many go and come, as they do when a node or a
/// network goes down, most of that is told along with who comes.
const LEAVE_DELAY: Duration = Duration::from_millis(100);

/// How long until a broker that was away is told again.
const RETRY: Duration = Duration::from_secs(2);

/// Counts and tells. The counts are absolute: telling them twice, or after a while, is harmless.
#[derive(Clone, Debug)]
pub struct Members {
    hub: Arc<Hub>,
    rooms: Rooms,
    turns: Turns,
    /// Rooms that somebody has left, which the broker does not know yet.
    left: Arc<DashSet<RoomName>>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Members {
    /// For a node's connections.
    pub fn new(hub: Arc<Hub>, rooms: Rooms, tracker: TaskTracker, stop: CancellationToken) -> Self {
        Self { hub, rooms, turns: Turns::default(), left: Arc::default(), tracker, stop }
    }

    /// Tells how many of this node are in the room now, and asks how the room is.
    ///
    /// # Errors
    /// [`RoomError::NotFound`], [`RoomError::Unavailable`].
    pub async fn tell(&self, room: RoomName) -> Result<RoomStatus, RoomError> {
        Ok(self.tell_and_read(room, 0).await?.0)
    }

    /// Sees to it that the broker hears soon how many are left, unless it is told before.
    pub fn tell_soon(&self, room: RoomName) {
        if self.left.insert(room) {
            self.tracker.spawn(self.clone().tell_until_heard(room));
        }
    }

    async fn tell_until_heard(self, room: RoomName) {
        let mut pause = LEAVE_DELAY;
        loop {
            let on = self.stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some();
            if !self.left.contains(&room) {
                return;
            }
            match self.tell(room).await {
                Ok(_) | Err(RoomError::NotFound) => return,
                Err(error) => {
                    tracing::debug!(%error, %room, "the broker does not know yet who left a room");
                    // A node that ends is forgotten with all its counts.
                    if !on || !self.left.insert(room) {
                        return;
                    }
                }
            }
            pause = RETRY;
        }
    }

    /// As [`tell`](Self::tell), and asks for the newest of the broker's log, descending, at most `newest`.
    ///
    /// # Errors
    /// [`RoomError::NotFound`], [`RoomError::Unavailable`].
    pub async fn tell_and_read(&self, room: RoomName, newest: usize) -> Result<(RoomStatus, Vec<LogEntry>), RoomError> {
        // Counted within its turn: a later count is told later.
        let _turn = self.turns.take(room.as_bytes()).await;
        self.left.remove(&room);
        let (guests, hosts) = self.hub.members(room);
        self.rooms.enter(room, guests, hosts, newest).await
    }
}
