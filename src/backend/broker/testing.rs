//! Fixtures for tests of the broker: a database, nodes that use it, and a sink that records bus events.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::queue::ArchivedMark;
use super::{Change, LogEntry, MemberCounts, Outcome, Partition, Publication, Sink, Submission};
use crate::backend::redis::Redis;
use crate::backend::redis::testing::{Kind, Servers};
use crate::backend::{Backend, ClusterPorts, RedisOptions};
use crate::chat::history::{History, PAGE, RoomKey};
use crate::chat::rooms::{RoomError, Rooms};
use crate::domain::Control;
use crate::domain::Rng;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::{Host, HostId, HostUuid, Room, RoomName, Seq, Side};
use crate::protocol::chat::{StoredFrame, message_head};
use crate::store::testing::{Database, on_fresh};
use crate::store::{BatchRoom, NewHost, Store};

/// Maximum time that a test waits for a condition.
pub(crate) const WAIT_LIMIT: Duration = Duration::from_secs(20);

/// Polls a condition until it is true. Panics if it is not true within [`WAIT_LIMIT`].
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is_true: impl FnMut() -> F) {
    let attempts = async {
        while !is_true().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(WAIT_LIMIT, attempts).await.is_ok(), "timed out waiting for {what}");
}

/// Recorded call to a method of [`Sink`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SinkCall {
    Publication { room: RoomName, host: HostId, prev: Seq, seq: Seq, frame: Bytes },
    Notice { room: RoomName, from: Side, frame: Bytes },
    Changed(Change),
    Control(Control),
    Missed,
}

/// Sink that records every call.
#[derive(Debug, Default)]
pub(crate) struct RecordingSink {
    calls: Mutex<Vec<SinkCall>>,
    more: Notify,
}

impl RecordingSink {
    fn record(&self, calls: SinkCall) {
        self.calls.lock().push(calls);
        self.more.notify_one();
    }

    pub(crate) fn calls(&self) -> Vec<SinkCall> {
        self.calls.lock().clone()
    }

    pub(crate) fn clear(&self) {
        self.calls.lock().clear();
    }

    /// Waits until the recorded calls satisfy `enough`. Returns all recorded calls.
    pub(crate) async fn until(&self, what: &str, enough: impl Fn(&[SinkCall]) -> bool) -> Vec<SinkCall> {
        let waiting = async {
            while !enough(&self.calls.lock()) {
                self.more.notified().await;
            }
        };
        assert!(
            tokio::time::timeout(WAIT_LIMIT, waiting).await.is_ok(),
            "not received: {what}; but {:?}",
            self.calls()
        );
        self.calls()
    }

    /// Waits until the sink has received the message with the sequence number `through` of a room. Returns `(prev, seq,
    /// frame)` of every recorded publication of the room.
    pub(crate) async fn publications(&self, room: RoomName, through: Seq) -> Vec<(Seq, Seq, Bytes)> {
        let calls = self
            .until(&format!("{through}"), |calls| {
                calls.iter().any(
                    |calls| matches!(calls, SinkCall::Publication { room: of, seq, .. } if *of == room && *seq == through),
                )
            })
            .await;
        let of_room = calls.into_iter().filter_map(|calls| match calls {
            SinkCall::Publication { room: of, prev, seq, frame, .. } if of == room => Some((prev, seq, frame)),
            _ => None,
        });
        of_room.collect()
    }

    pub(crate) fn changes(&self) -> Vec<Change> {
        let changes = self.calls().into_iter().filter_map(|calls| match calls {
            SinkCall::Changed(change) => Some(change),
            _ => None,
        });
        changes.collect()
    }
}

impl Sink for RecordingSink {
    fn publication(&self, publication: &Publication<'_>) {
        let Publication { room, host, prev, seq, frame, .. } = *publication;
        self.record(SinkCall::Publication { room, host, prev, seq, frame: Bytes::copy_from_slice(frame) });
    }
    fn notice(&self, room: RoomName, from: Side, frame: &[u8]) {
        self.record(SinkCall::Notice { room, from, frame: Bytes::copy_from_slice(frame) });
    }
    fn changed(&self, change: Change) {
        self.record(SinkCall::Changed(change));
    }
    fn control(&self, control: Control) {
        self.record(SinkCall::Control(control));
    }
    fn missed(&self) {
        self.record(SinkCall::Missed);
    }
}

/// Test environment: a database with one host and, for a cluster, Redis servers.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) host: Host,
    pub(crate) servers: Option<Servers>,
}

impl Fixture {
    /// Runs a test with the embedded broker.
    pub(crate) async fn embedded<F>(database: impl Into<Database>, test: impl FnOnce(Fixture) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        on_fresh(database, |store, _| async move { test(Fixture::new(store, None).await).await }).await;
    }

    /// Runs a test with the Redis broker on Redis 7, with the given database.
    pub(crate) async fn cluster<F>(database: impl Into<Database>, test: impl FnOnce(Fixture) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with(Kind::Redis7, database.into(), test).await;
    }

    /// Runs a test with the Redis broker on the given deployment, with SQLite.
    pub(crate) async fn on<F>(kind: Kind, test: impl FnOnce(Fixture) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with(kind, Database::Sqlite, test).await;
    }

    async fn with<F>(kind: Kind, database: Database, test: impl FnOnce(Fixture) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let servers = Servers::of(kind).await;
        on_fresh(database, |store, _| async move { test(Fixture::new(store, Some(servers)).await).await }).await;
    }

    async fn new(store: Store, servers: Option<Servers>) -> Self {
        let rng = Rng::from_entropy();
        let host = NewHost {
            email: "host@shop.example".into(),
            uuid: HostUuid::from_random(rng.bytes()),
            password_hash: "$argon2id$".into(),
            access_key: HostUuid::from_random(rng.bytes()).to_string(),
            secret_key: "5e".repeat(32),
            service_name: "가게".into(),
            service_expl: String::new(),
            service_domain: None,
        };
        let host = store.hosts().create(host, SystemClock.now()).await.unwrap();
        Self { store, host, servers }
    }

    /// Creates a node that is subscribed to the bus.
    pub(crate) async fn node(&self) -> Node {
        let redis = match &self.servers {
            Some(servers) => Some(servers.node().await),
            None => None,
        };
        let backend = match &redis {
            Some(redis) => Backend::redis(redis.clone(), Rng::from_entropy(), RedisOptions::default()),
            None => Backend::embedded(self.store.clone(), Arc::new(SystemClock)),
        };
        let sink = Arc::<RecordingSink>::default();
        backend.bus.subscribe(sink.clone()).await.unwrap();
        let history = History::new(&backend, self.store.clone());
        let rooms = Rooms::new(
            self.store.clone(),
            &backend,
            history.clone(),
            Arc::new(SystemClock),
            Rng::from_entropy(),
            "+09:00".parse().unwrap(),
        );
        Node { backend, sink, rooms, history, redis, host: self.host.clone() }
    }
}

/// Backend and services of a node. The node has no listener and no sockets.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) backend: Backend,
    pub(crate) sink: Arc<RecordingSink>,
    pub(crate) rooms: Rooms,
    pub(crate) history: History,
    redis: Option<Redis>,
    host: Host,
}

impl Node {
    /// Returns the Redis clients of the node. Panics if the node is not in a cluster.
    pub(crate) fn redis(&self) -> &Redis {
        self.redis.as_ref().expect("a cluster")
    }

    /// Returns the ports that exist only in a cluster. Panics if the node is not in a cluster.
    pub(crate) fn cluster(&self) -> &ClusterPorts {
        self.backend.cluster.as_ref().expect("a cluster")
    }

    /// Creates a room only in the database.
    pub(crate) async fn unseeded_room(&self) -> Room {
        let room = self.open_room().await;
        if let Some(redis) = &self.redis {
            for key in redis.keys_with(&format!(":room:{}", room.name)).await {
                assert_eq!(redis.raw::<i64>("DEL", &[&key]).await, 1);
                redis
                    .raw::<i64>("ZREM", &[&key.replace(&format!("room:{}", room.name), "idle"), room.name.as_str()])
                    .await;
            }
        }
        room
    }

    /// Creates a room as `POST /api/chat/` does.
    pub(crate) async fn open_room(&self) -> Room {
        self.rooms.open(&self.host, None).await.unwrap()
    }

    /// Returns the current epoch of a partition.
    pub(crate) async fn epoch(&self, partition: Partition) -> Option<String> {
        loop {
            let name = RoomName::from_random(Rng::from_entropy().bytes());
            if self.backend.log.partition_of(name) == partition {
                return self.cluster().seeding.begin_seed(name).await.unwrap().unwrap().epoch;
            }
        }
    }

    /// Creates a room in the database and in the broker.
    pub(crate) async fn room(&self) -> Room {
        let room = self.unseeded_room().await;
        self.seed(room.name).await;
        room
    }

    /// Creates a room in the same partition as `other`.
    pub(crate) async fn room_beside(&self, other: &Room) -> Room {
        loop {
            let room = self.unseeded_room().await;
            if self.backend.log.partition_of(room.name) == self.backend.log.partition_of(other.name) {
                self.seed(room.name).await;
                return room;
            }
        }
    }

    /// Loads a room from the database into the broker. Does nothing on a single-node server.
    pub(crate) async fn seed(&self, room: RoomName) {
        if self.redis.is_some() {
            self.rooms.seed(room).await.unwrap();
        }
    }

    /// Returns the messages that a joining client receives.
    pub(crate) async fn newest(&self, room: &Room) -> Vec<LogEntry> {
        match self.rooms.enter(room.name, MemberCounts::default()).await {
            Ok(status) => {
                let log = match &self.backend.cluster {
                    Some(cluster) => cluster.recent.log_before(room.name, None, PAGE).await.unwrap(),
                    None => Vec::new(),
                };
                self.history.newest(key_of(room), status.seq, log).await.unwrap()
            }
            Err(RoomError::NotFound) => Vec::new(),
            Err(error) => panic!("{error}"),
        }
    }

    /// Submits a batch of messages. All messages must belong to one partition.
    pub(crate) async fn accept(&self, batch: &[Submission]) -> Vec<Outcome> {
        let partition = self.backend.log.partition_of(batch[0].room);
        self.backend.log.accept(partition, &batch.iter().collect::<Vec<_>>()).await.unwrap()
    }

    /// Writes a room's queued messages to the database, if their numbers are in `seqs`. Does not mark them as archived.
    /// Returns the queue position of the last written message.
    pub(crate) async fn write_to_sql(&self, store: &Store, room: &Room, seqs: std::ops::RangeInclusive<Seq>) -> String {
        let queue = self.cluster().archive.clone();
        let entries = queue.read(self.backend.log.partition_of(room.name), 1_000_000).await.unwrap();
        let (mut messages, mut rooms, mut through) = (Vec::new(), Vec::new(), String::new());
        let mut unattended = Vec::new();
        for entry in entries.into_iter().filter(|entry| entry.room == room.name) {
            let stored: StoredFrame<'_> = serde_json::from_slice(&entry.frame).unwrap();
            if seqs.contains(&stored.seq) {
                unattended.extend(entry.unattended.then_some((room.id, stored.seq)));
                messages.push(stored.into_message(room.id, entry.accepted_at).unwrap());
                rooms = vec![BatchRoom { key: key_of(room), life: entry.epoch }];
                through = entry.position;
            }
        }
        store.messages().archive(&messages, &rooms, &unattended).await.unwrap();
        through
    }

    /// Archives the messages of a room up to the sequence number `through`. Also removes all earlier entries from the
    /// queue.
    pub(crate) async fn archive_through(&self, store: &Store, room: &Room, through: Seq) {
        let (queue, partition) = (self.cluster().archive.clone(), self.backend.log.partition_of(room.name));
        let position = self.write_to_sql(store, room, 1..=through).await;
        let lease = queue.lease(partition).await.unwrap().unwrap();
        let row = store.rooms().get(room.id).await.unwrap().unwrap();
        let (state, version) = (row.state(), row.state_version);
        let marks = [ArchivedMark { room: room.name, archived: through, state, version, stored: Some(row.last_seq) }];
        assert!(queue.finish(partition, &lease, &position, 0, &marks).await.unwrap());
        queue.release(partition, &lease).await.unwrap();
    }

    /// Submits a guest message `id-<n>` for each number in `ids`. Returns the sequence numbers. Panics if a message is
    /// not accepted.
    pub(crate) async fn submit_ids(&self, room: &Room, ids: impl IntoIterator<Item = u64>) -> Vec<Seq> {
        let all: Vec<_> = ids.into_iter().map(|id| guest(room, &format!("id-{id}"))).collect();
        let mut numbers = Vec::new();
        for batch in all.chunks(super::MAX_BATCH) {
            for outcome in self.accept(batch).await {
                let Outcome::Accepted(seq) = outcome else { panic!("{outcome:?}") };
                numbers.push(seq);
            }
        }
        numbers
    }
}

/// Returns the key with which the history of a room is read.
pub(crate) fn key_of(room: &Room) -> RoomKey {
    RoomKey { name: room.name, chatroom: room.id }
}

/// Builds a guest's message with the given id.
pub(crate) fn guest(room: &Room, id: &str) -> Submission {
    submission(room, Side::Guest, id, &format!("text of {id} \"🙂\""), "2023-03-23T08:15:07.123")
}

pub(crate) fn submission(room: &Room, side: Side, id: &str, text: &str, datetime: &str) -> Submission {
    let (id, datetime) = (id.parse().unwrap(), datetime.parse().unwrap());
    let head = message_head(side, text, &datetime, &id).into();
    Submission { room: room.name, side, id, text: text.into(), datetime, head, trace: None }
}

/// Returns the complete frame of an accepted message.
pub(crate) fn frame_of(submission: &Submission, seq: Seq) -> Bytes {
    let mut frame = submission.head.to_vec();
    frame.extend_from_slice(format!("{seq}}}").as_bytes());
    frame.into()
}

/// Returns the sequence numbers of log entries.
pub(crate) fn numbers(entries: &[LogEntry]) -> Vec<Seq> {
    entries.iter().map(|entry| entry.seq).collect()
}
