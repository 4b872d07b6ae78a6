//! Reports to the broker how many connections this node has in each room.

use std::sync::Arc;
use std::time::Duration;

use dashmap::{DashMap, Entry};

use crate::backend::broker::RoomStatus;
use crate::backend::keyed_mutex::KeyedMutex;
use crate::backend::shutdown::Shutdown;
use crate::chat::hub::Hub;
use crate::chat::rooms::{RoomError, Rooms};
use crate::domain::RoomName;

/// Delay before a report that a connection has left a room. It is short, because a message that is accepted before the
/// report counts as delivered to the recipient. If the client reconnects within the delay, one report covers leaving
/// and joining.
const LEAVE_DELAY: Duration = Duration::from_millis(25);

/// Delay before a failed report is repeated.
const RETRY: Duration = Duration::from_secs(2);

/// Reports connection counts to the broker. The counts are absolute, so a repeated or late report is harmless.
#[derive(Clone, Debug)]
pub struct Members {
    hub: Arc<Hub>,
    rooms: Rooms,
    locks: KeyedMutex,
    /// Rooms that a connection has just left. The flag is `true` while a departure is not included in a report.
    left: Arc<DashMap<RoomName, bool>>,
    shutdown: Shutdown,
}

impl Members {
    /// Creates the reporter of a node's connections.
    pub fn new(hub: Arc<Hub>, rooms: Rooms, shutdown: Shutdown) -> Self {
        Self { hub, rooms, locks: KeyedMutex::default(), left: Arc::default(), shutdown }
    }

    /// Reports the current counts of a room and returns the state of the room.
    ///
    /// # Errors
    /// Returns [`RoomError::NotFound`] or [`RoomError::Unavailable`].
    pub async fn report(&self, room: RoomName) -> Result<RoomStatus, RoomError> {
        // Connections are counted under the lock, so that reports are sent in the order of the counts.
        let _lock = self.locks.lock(room.as_bytes()).await;
        let is_unreported =
            self.left.get_mut(&room).is_some_and(|mut is_unreported| std::mem::take(&mut *is_unreported));
        let departures = UnreportedDepartures { members: is_unreported.then_some(self), room };
        let reported = self.rooms.enter(room, self.hub.members(room)).await;
        if matches!(reported, Ok(_) | Err(RoomError::NotFound)) {
            departures.discard();
        }
        reported
    }

    /// Schedules a report after a short delay. Repeats the report until it succeeds or the node stops. Omits the report
    /// if another report of the room is sent first.
    pub fn report_soon(&self, room: RoomName) {
        match self.left.entry(room) {
            Entry::Occupied(mut is_unreported) => {
                is_unreported.insert(true);
            }
            Entry::Vacant(first) => {
                first.insert(true);
                self.shutdown.spawn(self.clone().report_until_accepted(room));
            }
        }
    }

    async fn report_until_accepted(self, room: RoomName) {
        let mut pause = LEAVE_DELAY;
        loop {
            let on = self.shutdown.until_stopping(tokio::time::sleep(pause)).await.is_some();
            pause = LEAVE_DELAY;
            if self.left.get(&room).is_some_and(|is_unreported| *is_unreported) {
                match self.report(room).await {
                    Ok(_) | Err(RoomError::NotFound) => {}
                    // This node is stopping, so the report is not repeated. The counts expire with the lease of the
                    // node.
                    Err(_) if !on => {}
                    Err(error) => {
                        tracing::debug!(%error, %room, "failed to report connection count of room, retrying");
                        pause = RETRY;
                    }
                }
            }
            if self.left.remove_if(&room, |_, is_unreported| !on || !*is_unreported).is_some() {
                return;
            }
        }
    }
}

/// Schedules another report of a room when dropped. A report that fails or is cancelled therefore loses no departure
/// that it was to include.
struct UnreportedDepartures<'a> {
    /// `None` if no departure is unreported.
    members: Option<&'a Members>,
    room: RoomName,
}

impl UnreportedDepartures<'_> {
    fn discard(mut self) {
        self.members = None;
    }
}

impl Drop for UnreportedDepartures<'_> {
    fn drop(&mut self) {
        if let Some(members) = self.members {
            members.report_soon(self.room);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::backend::broker::testing::{Fixture, until};
    use crate::chat::hub::{Identity, Place};
    use crate::domain::Rng;
    use crate::store::Dialect;

    #[tokio::test]
    async fn departures_are_reported_with_joins_or_soon_and_until_accepted() {
        Fixture::cluster(Dialect::Sqlite, |fixture| async move {
            let node = fixture.node().await;
            let room = node.room().await;
            let (hub, shutdown) = (Hub::new(Rng::from_seed(1)), Shutdown::new());
            let members = Members::new(hub.clone(), node.rooms.clone(), shutdown.clone());
            let join = || hub.register(Place::Room(room.name), hub.connection(Identity::Guest));
            let guests =
                || async { node.backend.states.status(&[room.name]).await.unwrap()[0].as_ref().unwrap().guests };

            let (first, second) = (join(), join());
            assert_eq!(members.report(room.name).await.unwrap().guests, 2);
            drop(first);
            members.report_soon(room.name);
            let third = join();
            assert_eq!(members.report(room.name).await.unwrap().guests, 2);
            drop((second, third));
            members.report_soon(room.name);
            members.report_soon(room.name);
            assert!(shutdown.tasks().len() <= 1, "one task per room, for any number of departures");
            until("the counts are reported", || async { guests().await == 0 }).await;

            let last = join();
            members.report(room.name).await.unwrap();
            fixture.servers.as_ref().unwrap().freeze();
            drop(last);
            members.report_soon(room.name);
            tokio::time::sleep(LEAVE_DELAY * 2).await;
            fixture.servers.as_ref().unwrap().thaw();
            until("the counts are reported", || async { guests().await == 0 }).await;

            let (last, other) = (join(), join());
            members.report(room.name).await.unwrap();
            drop((last, other));
            members.report_soon(room.name);
            // The report that includes the departures is cancelled before the broker responds.
            assert!(members.report(room.name).now_or_never().is_none());
            until("the counts are reported", || async { guests().await == 0 }).await;
            shutdown.tasks().close();
            shutdown.tasks().wait().await;
            assert!(members.left.is_empty());
        })
        .await;
    }
}
