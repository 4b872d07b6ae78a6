//! Periodic sweep, which compares each room of this node with the broker once a minute. It finds messages that the bus,
//! a restart or a failover lost without an error.
//!
//! One call per room reports the connection counts of the node and returns the state of the room.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;

use super::Members;
use crate::chat::hub::Hub;
use crate::chat::metrics::GapReason;
use crate::chat::rooms::{RoomError, Rooms};
use crate::domain::{RoomName, RoomState, Seq};
use crate::protocol::Close;

/// Duration of one round over all rooms.
const ROUND: Duration = Duration::from_secs(60);

/// Interval between steps. The calls of a round are distributed evenly over its steps.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of steps in a fast round, and minimum number of rooms per step. A fast round is spread over several
/// steps to limit the load on a new Redis master, because all nodes query it about their rooms at the same time.
const HURRIED_STEPS: usize = 20;
const HURRIED_STEP: usize = 500;

/// Maximum number of concurrent calls to the broker.
const AT_ONCE: usize = 32;

/// Compares the rooms of a node with the broker, step by step.
#[derive(Debug)]
pub struct Sweep {
    hub: Arc<Hub>,
    members: Members,
    rooms: Rooms,
    left: VecDeque<RoomName>,
    step_size: usize,
    /// Rooms that lagged in the last step, each with its sequence number in the broker at that time. Publications that
    /// were in flight at that time arrive before the next step.
    lagging: Vec<(RoomName, Seq)>,
}

impl Sweep {
    /// Creates the sweep of a node's connections.
    pub fn new(hub: Arc<Hub>, members: Members, rooms: Rooms) -> Self {
        Self { hub, members, rooms, left: VecDeque::new(), step_size: 0, lagging: Vec::new() }
    }

    /// Starts a fast round, because the broker may have lost this node's connection counts.
    pub fn hurry(&mut self) {
        self.left = self.hub.occupied_rooms().into();
        self.step_size = self.left.len().div_ceil(HURRIED_STEPS).max(HURRIED_STEP);
    }

    /// Makes the rooms that still lag since the last step catch up, and compares the next rooms of the round.
    pub async fn step(&mut self) {
        for (room, seq) in self.lagging.drain(..) {
            if self.hub.catch_up(room, seq) {
                self.hub.relay_metrics().gaps.get(GapReason::Sweep).increment(1);
            }
        }
        if self.left.is_empty() {
            self.left = self.hub.occupied_rooms().into();
            self.step_size = self.left.len().div_ceil((ROUND.as_secs() / INTERVAL.as_secs()) as usize);
        }
        let part: Vec<RoomName> = self.left.drain(..self.step_size.min(self.left.len())).collect();
        let this = &*self;
        let compared = futures_util::stream::iter(part).map(|room| this.compare(room)).buffer_unordered(AT_ONCE);
        self.lagging = compared.filter_map(std::future::ready).collect().await;
    }

    /// Reports the connection counts of a room and applies the returned state. Returns the room and its sequence number
    /// if its sockets lag.
    async fn compare(&self, room: RoomName) -> Option<(RoomName, Seq)> {
        match self.members.report(room).await {
            Ok(status) if status.state == RoomState::Open => {
                return self.hub.lags(room, status.seq).then_some((room, status.seq));
            }
            Ok(status) if status.state == RoomState::Closed => {
                // `None` means that the room was reopened or deleted after the report, or that the database could not
                // be read.
                if let Some(notice) = self.rooms.closed_notice(room).await {
                    self.hub.close_room(room, Some(&notice), Close::Normal);
                }
            }
            Ok(_) | Err(RoomError::NotFound) => self.hub.close_room(room, None, Close::NotFound),
            // The next round compares the room again. Readiness reports an unavailable broker.
            Err(error) => tracing::debug!(%error, %room, "failed to compare room with redis, retrying"),
        }
        None
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::backend::broker::testing::{Fixture, Node};
    use crate::backend::shutdown::Shutdown;
    use crate::chat::hub::{Connection, Identity, Place, Registration};
    use crate::domain::Rng;
    use crate::domain::{Room, RoomChange};
    use crate::store::Dialect;

    /// Creates the sweep and the hub of a node whose sockets receive nothing from the bus.
    fn without_bus(node: &Node) -> (Sweep, Arc<Hub>) {
        let hub = Hub::new(Rng::from_seed(1));
        let members = Members::new(hub.clone(), node.rooms.clone(), Shutdown::new());
        (Sweep::new(hub.clone(), members, node.rooms.clone()), hub)
    }

    fn join(hub: &Arc<Hub>, room: &Room) -> (Arc<Connection>, Registration) {
        let connection = hub.connection(Identity::Guest);
        connection.start_after(0);
        connection.caught_up(0, 0);
        (connection.clone(), hub.register(Place::Room(room.name), connection))
    }

    #[tokio::test]
    async fn messages_that_the_bus_lost_are_read_from_the_log() {
        Fixture::cluster(Dialect::Sqlite, |fixture| async move {
            let node = fixture.node().await;
            let (mut sweep, hub) = without_bus(&node);
            let (room, other) = (node.room().await, node.room().await);
            let (lagging, _in_room) = join(&hub, &room);
            let (up_to_date, _in_other) = join(&hub, &other);
            node.submit_ids(&room, 1..=3).await;
            // Each step compares one of the two rooms. The sockets of a lagging room start to read the log in the next
            // step.
            sweep.step().await;
            assert_eq!(lagging.next_read(), None);
            for _ in 0..2 {
                sweep.step().await;
            }
            assert_eq!(lagging.next_read(), Some((0, 3)));
            assert_eq!(up_to_date.next_read(), None);
            let status = node.backend.states.status(&[room.name]).await.unwrap().remove(0).unwrap();
            assert_eq!((status.guests, status.hosts), (1, 0), "the counts are reported");
        })
        .await;
    }

    #[tokio::test]
    async fn a_hurried_round_reports_counts_at_once() {
        Fixture::cluster(Dialect::Sqlite, |fixture| async move {
            let node = fixture.node().await;
            let (mut sweep, hub) = without_bus(&node);
            let rooms = [node.room().await, node.room().await, node.room().await];
            let _members = rooms.each_ref().map(|room| join(&hub, room));
            sweep.step().await;
            sweep.hurry();
            sweep.step().await;
            for status in node.backend.states.status(&rooms.each_ref().map(|room| room.name)).await.unwrap() {
                assert_eq!(status.unwrap().guests, 1);
            }
        })
        .await;
    }

    #[tokio::test]
    async fn sockets_of_a_room_closed_or_deleted_without_an_event_are_closed() {
        Fixture::cluster(Dialect::Sqlite, |fixture| async move {
            let node = fixture.node().await;
            let (mut sweep, hub) = without_bus(&node);
            let (closed, left) = (node.room().await, node.room().await);
            let (in_closed, _in_closed) = join(&hub, &closed);
            let (in_left, _in_left) = join(&hub, &left);
            node.rooms.change(closed.name, RoomChange::Close).await.unwrap();
            node.rooms.change(left.name, RoomChange::Delete).await.unwrap();
            for _ in 0..2 {
                sweep.step().await;
            }
            let mut frames = VecDeque::new();
            assert_eq!(in_closed.take(&mut frames, usize::MAX), Some(Close::Normal));
            assert!(frames.len() == 1 && frames[0].ends_with(b"}"), "the notice comes first: {frames:?}");
            assert_eq!(in_left.pending_close(), Some(Close::NotFound));
        })
        .await;
    }
}
