//! The inbox: tells a host's status sockets of this node that a message of a guest arrived in one of his rooms (SPEC 5), so
//! that his list moves without polling.
//!
//! Every node hears every publication and knows which hosts it has, so nothing more goes over the bus. A room speaks up at
//! once and then at most once a second, with the newest message: nothing is stored, and what is not told was overtaken.
//!
//! **Invariant:** a frame is read as JSON only when it is told, never for each publication.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dashmap::{DashMap, Entry};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::Publication;
use crate::domain::{HostId, RoomName};
use crate::hub::Hub;
use crate::protocol::chat::{StoredFrame, is_from_guest};
use crate::protocol::status::arrival_frame;

/// How often a room may speak up.
const INTERVAL: Duration = Duration::from_secs(1);

/// The service.
#[derive(Clone, Debug)]
pub struct Inbox {
    hub: Arc<Hub>,
    /// The rooms that spoke up within [`INTERVAL`], each with the newest message that is still to be told.
    quiet: Arc<DashMap<RoomName, Option<Bytes>>>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Inbox {
    /// For a node's connections.
    pub fn new(hub: Arc<Hub>, tracker: TaskTracker, stop: CancellationToken) -> Self {
        Self { hub, quiet: Arc::default(), tracker, stop }
    }

    /// A message was accepted somewhere.
    pub fn arrived(&self, publication: &Publication<'_>) {
        let Publication { room, host, frame, .. } = *publication;
        if !self.hub.has_desk(host) || !is_from_guest(frame) {
            return;
        }
        match self.quiet.entry(room) {
            Entry::Occupied(mut waiting) => {
                waiting.insert(Some(Bytes::copy_from_slice(frame)));
            }
            Entry::Vacant(first) => {
                first.insert(None);
                self.tell(host, room, frame);
                self.tracker.spawn(self.clone().speak_up_later(host, room));
            }
        }
    }

    /// Tells the newest once an interval, for as long as there is something new.
    async fn speak_up_later(self, host: HostId, room: RoomName) {
        loop {
            let on = self.stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some();
            let newest = self.quiet.get_mut(&room).and_then(|mut waiting| waiting.take());
            match newest {
                Some(frame) if on => self.tell(host, room, &frame),
                // Only if nothing came in between: what came is told in its turn.
                _ if self.quiet.remove_if(&room, |_, waiting| !on || waiting.is_none()).is_some() => return,
                _ => {}
            }
        }
    }

    fn tell(&self, host: HostId, room: RoomName, frame: &[u8]) {
        match serde_json::from_slice::<StoredFrame<'_>>(frame) {
            Ok(message) => self.hub.tell_desks(host, &arrival_frame(room, &message)),
            Err(error) => tracing::error!(%error, %room, "a publication is no message"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::clock::Chance;
    use crate::domain::{HostUuid, Side};
    use crate::hub::{Connection, Identity, Place, Registration};
    use crate::protocol::chat::message_head;
    use crate::protocol::frame::payload_of;

    const HOST: HostId = HostId(1);

    struct Stage {
        inbox: Inbox,
        desk: Arc<Connection>,
        _registration: Registration,
    }

    impl Stage {
        fn new() -> Self {
            let hub = Hub::new(Chance::from_seed(1));
            let desk = hub.connection(Identity::Host { host: HOST, sid: "sid".into() });
            let place = Place::Status(HostUuid::from_random([1; 16]));
            let registration = hub.register(place, desk.clone());
            let inbox = Inbox::new(hub, TaskTracker::new(), CancellationToken::new());
            Self { inbox, desk, _registration: registration }
        }

        fn arrives(&self, host: HostId, room: u8, side: Side, seq: u64) {
            let clock = "2023-03-23T08:15:07".parse().unwrap();
            let mut frame = message_head(side, &format!("message {seq}"), &clock, &"id".parse().unwrap());
            frame.extend_from_slice(format!("{seq}}}").as_bytes());
            let room = RoomName::from_random([room; 16]);
            self.inbox.arrived(&Publication { room, host, prev: seq - 1, seq, frame: &frame, way: None, trace: None });
        }

        fn told(&self) -> Vec<u64> {
            let mut frames = VecDeque::new();
            self.desk.take(&mut frames, usize::MAX);
            let seq = |frame: &Bytes| {
                let told: serde_json::Value = serde_json::from_slice(payload_of(frame)).unwrap();
                told["seq"].as_u64().unwrap()
            };
            frames.iter().map(seq).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_speaks_up_at_once_and_then_once_a_second_with_the_newest() {
        let stage = Stage::new();
        for seq in 1..=20 {
            stage.arrives(HOST, 1, Side::Guest, seq);
        }
        stage.arrives(HOST, 2, Side::Guest, 100);
        assert_eq!(stage.told(), [1, 100]);
        tokio::time::sleep(INTERVAL * 3 / 2).await;
        assert_eq!(stage.told(), [20]);
        stage.arrives(HOST, 1, Side::Guest, 21);
        assert_eq!(stage.told(), [] as [u64; 0], "the second since the last word is not over");
        tokio::time::sleep(INTERVAL).await;
        assert_eq!(stage.told(), [21]);
        tokio::time::sleep(INTERVAL * 2).await;
        assert!(stage.inbox.quiet.is_empty(), "a room that rests leaves nothing behind");
        stage.arrives(HOST, 1, Side::Guest, 22);
        assert_eq!(stage.told(), [22]);
    }

    #[tokio::test(start_paused = true)]
    async fn his_own_messages_and_those_of_other_hosts_are_no_news() {
        let stage = Stage::new();
        stage.arrives(HOST, 1, Side::Host, 1);
        stage.arrives(HostId(2), 2, Side::Guest, 1);
        assert_eq!(stage.told(), [] as [u64; 0]);
        assert!(stage.inbox.quiet.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_end_of_the_node_nobody_waits() {
        let stage = Stage::new();
        stage.arrives(HOST, 1, Side::Guest, 1);
        stage.arrives(HOST, 1, Side::Guest, 2);
        stage.inbox.stop.cancel();
        stage.inbox.tracker.close();
        stage.inbox.tracker.wait().await;
        assert!(stage.inbox.quiet.is_empty());
    }
}
