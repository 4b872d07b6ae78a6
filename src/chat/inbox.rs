//! Notifies the status sockets of a host on this node when a message of a guest arrives in a room of the host (SPEC 5).
//! The room list of the host then updates without polling.
//!
//! Every node receives every publication, so a notice is not sent over the bus. The first notice of a room is sent at
//! once. Later notices are sent at most once per second, each for the newest message. Notices are not stored, because a
//! newer notice replaces each one that was skipped.
//!
//! **Invariant:** the JSON of a publication is parsed only if its notice is sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::backend::broker::Publication;
use crate::backend::shutdown::Shutdown;
use crate::chat::coalesce::Coalescer;
use crate::chat::hub::{Hub, Topic};
use crate::domain::{HostId, RoomName};
use crate::protocol::chat::{StoredFrame, is_from_guest};
use crate::protocol::status::arrival_frame;

/// Minimum interval between two notices of a room.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct Inbox {
    hub: Arc<Hub>,
    rooms: Coalescer<RoomName>,
}

impl Inbox {
    /// Creates the inbox for the connections of a node.
    pub fn new(hub: Arc<Hub>, shutdown: Shutdown) -> Self {
        Self { hub, rooms: Coalescer::new(INTERVAL, shutdown) }
    }

    /// Notifies the host of a publication if it is a guest's message. Must be called for every accepted message.
    pub fn arrived(&self, publication: &Publication<'_>) {
        let Publication { room, host, frame, .. } = *publication;
        if !self.hub.has_status_socket(host) || !is_from_guest(frame) {
            return;
        }
        if self.rooms.is_first(room, || Bytes::copy_from_slice(frame)) {
            notify(&self.hub, host, room, frame);
            let hub = self.hub.clone();
            self.rooms.follow(room, move |frame| {
                notify(&hub, host, room, &frame);
                std::future::ready(())
            });
        }
    }
}

fn notify(hub: &Hub, host: HostId, room: RoomName, frame: &[u8]) {
    match serde_json::from_slice::<StoredFrame<'_>>(frame) {
        Ok(message) => hub.notify_host(host, Topic::Arrival(room), &arrival_frame(room, &message)),
        Err(error) => tracing::error!(%error, %room, "failed to decode published message"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::chat::hub::{Connection, Identity, Place, Registration};
    use crate::domain::Rng;
    use crate::domain::{HostUuid, Side};
    use crate::protocol::chat::message_head;
    use crate::protocol::frame::payload_of;

    const HOST: HostId = HostId(1);

    struct InboxTest {
        inbox: Inbox,
        shutdown: Shutdown,
        status_socket: Arc<Connection>,
        _registration: Registration,
    }

    impl InboxTest {
        fn new() -> Self {
            let hub = Hub::new(Rng::from_seed(1));
            let status_socket = hub.connection(Identity::Host { host: HOST, sid: "sid".into() });
            let place = Place::Status(HostUuid::from_random([1; 16]));
            let registration = hub.register(place, status_socket.clone());
            let shutdown = Shutdown::new();
            let inbox = Inbox::new(hub, shutdown.clone());
            Self { inbox, shutdown, status_socket, _registration: registration }
        }

        fn arrives(&self, host: HostId, room: u8, side: Side, seq: u64) {
            let clock = "2023-03-23T08:15:07".parse().unwrap();
            let mut frame = message_head(side, &format!("message {seq}"), &clock, &"id".parse().unwrap());
            frame.extend_from_slice(format!("{seq}}}").as_bytes());
            let room = RoomName::from_random([room; 16]);
            self.inbox.arrived(&Publication {
                room,
                host,
                prev: seq - 1,
                seq,
                frame: &frame,
                provenance: None,
                trace: None,
            });
        }

        fn received(&self) -> Vec<u64> {
            let mut frames = VecDeque::new();
            self.status_socket.take(&mut frames, usize::MAX);
            let seq = |frame: &Bytes| {
                let notice: serde_json::Value = serde_json::from_slice(payload_of(frame)).unwrap();
                notice["seq"].as_u64().unwrap()
            };
            frames.iter().map(seq).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_notifies_at_once_and_then_once_per_second_with_the_newest() {
        let test = InboxTest::new();
        for seq in 1..=20 {
            test.arrives(HOST, 1, Side::Guest, seq);
        }
        test.arrives(HOST, 2, Side::Guest, 100);
        assert_eq!(test.received(), [1, 100]);
        tokio::time::sleep(INTERVAL * 3 / 2).await;
        assert_eq!(test.received(), [20]);
        test.arrives(HOST, 1, Side::Guest, 21);
        assert_eq!(test.received(), [] as [u64; 0], "one second has not passed since the last notice");
        tokio::time::sleep(INTERVAL).await;
        assert_eq!(test.received(), [21]);
        tokio::time::sleep(INTERVAL * 2).await;
        assert!(test.inbox.rooms.is_empty(), "an idle room is removed");
        test.arrives(HOST, 1, Side::Guest, 22);
        assert_eq!(test.received(), [22]);
    }

    #[tokio::test(start_paused = true)]
    async fn own_messages_and_those_of_other_hosts_cause_no_notice() {
        let test = InboxTest::new();
        test.arrives(HOST, 1, Side::Host, 1);
        test.arrives(HostId(2), 2, Side::Guest, 1);
        assert_eq!(test.received(), [] as [u64; 0]);
        assert!(test.inbox.rooms.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopping_node_does_not_wait_for_notices() {
        let test = InboxTest::new();
        test.arrives(HOST, 1, Side::Guest, 1);
        test.arrives(HOST, 1, Side::Guest, 2);
        test.shutdown.finish().await;
        assert!(test.inbox.rooms.is_empty());
    }
}
