//! Tests of the archiver with a real Redis and a real database.

use crate::backend::redis::testing::PT;
use std::collections::BTreeMap;

use sea_orm::ConnectionTrait as _;

use super::*;
use crate::backend::broker::testing::{Fixture, Node, WAIT_LIMIT, frame_of, guest, key_of, numbers, submission, until};
use crate::backend::broker::{MAX_BATCH, Outcome};
use crate::domain::Message;
use crate::domain::{Room, RoomChange, Seq, Side};
use crate::store::Dialect;

/// Generates one test per function and database system.
macro_rules! on_every_database {
    ($($name:ident),* $(,)?) => {
        on_database!(sqlite, Sqlite: $($name),*);
        on_database!(mysql, MySql: $($name),*);
        on_database!(mariadb, MariaDb: $($name),*);
    };
}
macro_rules! on_database {
    ($module:ident, $database:ident: $($name:ident),*) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::Fixture::cluster(crate::store::testing::Database::$database, super::$name).await;
            })*
        }
    };
}

on_every_database!(
    accepted_messages_are_archived_in_sql,
    entries_written_by_another_archiver_are_not_written_twice,
    while_sql_is_unavailable_messages_wait_and_are_read_from_the_log,
    a_second_archiver_takes_over_from_the_first,
    messages_of_a_deleted_room_are_dropped,
    invalid_entries_are_dead_lettered_and_the_rest_is_archived,
    a_message_with_a_used_number_is_dead_lettered,
    a_closed_room_leaves_the_broker_once_it_is_archived,
    a_backlog_of_long_messages_is_archived_in_order,
);

struct Archivers {
    archive: Archive,
    shutdown: Shutdown,
}

impl Archivers {
    fn of(fixture: &Fixture, node: &Node) -> Self {
        let shutdown = Shutdown::new();
        let queue = node.cluster().archive.clone();
        let archive = Archive::start(&queue, node.backend.log.partitions(), &fixture.store, &shutdown);
        Self { archive, shutdown }
    }

    async fn end(self) {
        tokio::time::timeout(WAIT_LIMIT, self.shutdown.finish()).await.expect("the archivers end");
    }
}

async fn archived(node: &Node, room: &Room) -> Seq {
    node.backend.states.status(&[room.name]).await.unwrap().remove(0).unwrap().archived
}

async fn queue_len(node: &Node, room: &Room) -> u64 {
    node.redis().raw("XLEN", &[&format!("{PT}{{{}}}:queue", node.backend.log.partition_of(room.name).0)]).await
}

async fn dead_letters(node: &Node, room: &Room) -> Vec<BTreeMap<String, String>> {
    let key = format!("{PT}{{{}}}:dead", node.backend.log.partition_of(room.name).0);
    let dead: Vec<(String, BTreeMap<String, String>)> = node.redis().raw("XRANGE", &[&key, "-", "+"]).await;
    dead.into_iter().map(|(_, fields)| fields).collect()
}

async fn stored(fixture: &Fixture, room: &Room) -> Vec<Message> {
    fixture.store.messages().between(room.id, 0, None, 10_000).await.unwrap()
}

async fn empty(node: &Node, room: &Room) {
    until("the queue is empty", || async { queue_len(node, room).await == 0 }).await;
}

async fn accepted_messages_are_archived_in_sql(fixture: Fixture) {
    let node = fixture.node().await;
    let archivers = Archivers::of(&fixture, &node);
    let rooms = [node.room().await, node.room().await, node.room().await];
    for (room, count) in rooms.iter().zip([1, 3, 1_300]) {
        node.submit_ids(room, 1..=count).await;
        archivers.archive.wake(room.name);
    }
    for (room, count) in rooms.iter().zip([1, 3, 1_300]) {
        until("all is archived", || async { archived(&node, room).await == count }).await;
        let stored = stored(&fixture, room).await;
        assert_eq!(stored.iter().map(|message| message.seq).collect::<Vec<_>>(), (1..=count).collect::<Vec<_>>());
        let frames: Vec<_> = stored.iter().map(crate::protocol::chat::message_frame).collect();
        let sent: Vec<_> = (1..=count).map(|seq| frame_of(&guest(room, &format!("id-{seq}")), seq)).collect();
        assert_eq!(frames, sent);
        let row = fixture.store.rooms().get(room.id).await.unwrap().unwrap();
        let newest = stored.last().unwrap();
        assert_eq!((row.last_seq, row.latest_msg.as_ref()), (count, Some(&newest.text)));
        assert_eq!((row.latest_msg_at, row.updated_at), (Some(newest.accepted_at), newest.accepted_at));
        assert_eq!(row.last_epoch, node.epoch(node.backend.log.partition_of(room.name)).await);
        assert_eq!(dead_letters(&node, room).await.len(), 0);
    }
    // Several rooms may share the queue of a partition, so the queues are checked after all rooms are archived.
    for room in &rooms {
        assert_eq!(queue_len(&node, room).await, 0);
    }
    archivers.end().await;
}

async fn entries_written_by_another_archiver_are_not_written_twice(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    node.submit_ids(&room, 1..=30).await;
    // Another archiver wrote the first twenty entries and crashed before it removed them from the queue.
    node.write_to_sql(&fixture.store, &room, 1..=20).await;
    let before = stored(&fixture, &room).await;
    assert_eq!(before.len(), 20);
    let archivers = Archivers::of(&fixture, &node);
    empty(&node, &room).await;
    let after = stored(&fixture, &room).await;
    assert_eq!((after.len(), &after[..20]), (30, &before[..]));
    assert_eq!(archived(&node, &room).await, 30);
    assert_eq!(dead_letters(&node, &room).await.len(), 0);
    archivers.end().await;
}

async fn while_sql_is_unavailable_messages_wait_and_are_read_from_the_log(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    let connection = fixture.store.connection();
    connection.execute_unprepared("ALTER TABLE chat_message RENAME TO elsewhere").await.unwrap();
    let archivers = Archivers::of(&fixture, &node);
    let lease = format!("{PT}{{{}}}:archiver", node.backend.log.partition_of(room.name).0);
    until("an archiver holds the lease", || async { node.redis().raw::<u64>("EXISTS", &[&lease]).await == 1 }).await;
    for seq in 1..=20 {
        node.submit_ids(&room, [seq]).await;
        archivers.archive.wake(room.name);
    }
    let all: Vec<_> = (1..=20).collect();
    assert_eq!(numbers(&node.newest(&room).await), all);
    assert_eq!(numbers(&node.history.after(key_of(&room), 0).await.unwrap().entries), all);
    assert_eq!((archived(&node, &room).await, queue_len(&node, &room).await), (0, 20));
    connection.execute_unprepared("ALTER TABLE elsewhere RENAME TO chat_message").await.unwrap();
    empty(&node, &room).await;
    assert_eq!(stored(&fixture, &room).await.iter().map(|message| message.seq).collect::<Vec<_>>(), all);
    assert_eq!(dead_letters(&node, &room).await.len(), 0);
    archivers.end().await;
}

async fn a_second_archiver_takes_over_from_the_first(fixture: Fixture) {
    let (one, other) = (fixture.node().await, fixture.node().await);
    let room = one.room().await;
    let lease = format!("{PT}{{{}}}:archiver", one.backend.log.partition_of(room.name).0);
    let holder = || async { one.redis().raw::<Option<String>>("GET", &[&lease]).await };
    let first = Archivers::of(&fixture, &one);
    until("the first has the lease", || async { holder().await.as_deref() == Some(one.redis().node().as_str()) }).await;
    let second = Archivers::of(&fixture, &other);
    for seq in 1..=20 {
        one.submit_ids(&room, [seq]).await;
        first.archive.wake(room.name);
        second.archive.wake(room.name);
        until("it is archived", || async { archived(&one, &room).await == seq }).await;
        assert_eq!(holder().await.as_deref(), Some(one.redis().node().as_str()));
    }
    first.end().await;
    one.submit_ids(&room, 21..=25).await;
    until("the second went on", || async { archived(&other, &room).await == 25 }).await;
    assert_eq!(holder().await.as_deref(), Some(other.redis().node().as_str()));
    assert_eq!(stored(&fixture, &room).await.len(), 25);
    second.end().await;
    assert_eq!(holder().await, None, "who ends gives the lease back");
}

async fn messages_of_a_deleted_room_are_dropped(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    let other = node.room_beside(&room).await;
    node.submit_ids(&room, 1..=3).await;
    node.submit_ids(&other, 1..=3).await;
    // The deletion is committed to the database and has not reached the broker.
    fixture.store.rooms().change(room.name, RoomChange::Delete, room.created_at).await.unwrap();
    let archivers = Archivers::of(&fixture, &node);
    empty(&node, &room).await;
    assert_eq!(stored(&fixture, &other).await.len(), 3);
    let left = fixture.store.messages().between(room.id, 0, None, 10).await.unwrap();
    assert_eq!((left, fixture.store.messages().delete_invisible(room.id, 10).await.unwrap()), (vec![], 0));
    assert_eq!(node.accept(&[guest(&room, "late")]).await, [Outcome::Deleted]);
    assert_eq!(dead_letters(&node, &room).await.len(), 0);
    archivers.end().await;
}

async fn invalid_entries_are_dead_lettered_and_the_rest_is_archived(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    let other = node.room_beside(&room).await;
    let mut poisoned = vec![guest(&room, "first")];
    if fixture.store.dialect() == Dialect::MySql {
        // The value is longer than its column. Clients cannot send such a value, but it must not block other rows.
        poisoned.push(submission(&room, Side::Guest, "long", &"x".repeat(70_000), "2023-03-23T08:15:07"));
    }
    poisoned.push(guest(&room, "last"));
    node.accept(&poisoned).await;
    let queue = format!("{PT}{{{}}}:queue", node.backend.log.partition_of(room.name).0);
    for frame in ["nonsense", "{\"type\":\"chat_message\"}"] {
        let id = room.id.0.to_string();
        let entry = [&queue, "*", "n", room.name.as_str(), "i", &id, "l", "life", "a", "1", "f", frame];
        let _: String = node.redis().raw("XADD", &entry).await;
    }
    let _: String = node.redis().raw("XADD", &[&queue, "*", "foreign", "entry"]).await;
    node.submit_ids(&other, 1..=2).await;
    let archivers = Archivers::of(&fixture, &node);
    empty(&node, &room).await;
    let dead = dead_letters(&node, &room).await;
    let whys: Vec<_> = dead.iter().map(|letter| letter["why"].as_str()).collect();
    assert_eq!(&whys[..3], ["not a message"; 3]);
    let ids: Vec<_> = stored(&fixture, &room).await.iter().map(|message| message.id.to_string()).collect();
    assert_eq!(ids, ["first", "last"]);
    assert_eq!(stored(&fixture, &other).await.len(), 2);
    if fixture.store.dialect() == Dialect::MySql {
        assert_eq!(whys.len(), 4);
        assert!(whys[3].contains("too long"), "{whys:?}");
        // Messages that the database rejects remain in the log and are read from there.
        assert_eq!(archived(&node, &room).await, 1);
        let all = node.history.after(key_of(&room), 0).await.unwrap();
        assert_eq!(numbers(&all.entries), [1, 2, 3]);
    }
    archivers.end().await;
}

async fn a_message_with_a_used_number_is_dead_lettered(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    node.submit_ids(&room, 1..=3).await;
    let stranger = Message {
        chatroom: room.id,
        seq: 2,
        side: Side::Host,
        text: "of another life".into(),
        datetime: "2023-03-23T08:15:07".parse().unwrap(),
        id: "stranger".parse().unwrap(),
        accepted_at: room.created_at,
    };
    fixture.store.messages().archive(std::slice::from_ref(&stranger), &[], &[]).await.unwrap();
    let archivers = Archivers::of(&fixture, &node);
    empty(&node, &room).await;
    let rows = stored(&fixture, &room).await;
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(rows[1], stranger);
    let dead = dead_letters(&node, &room).await;
    assert_eq!((dead.len(), dead[0]["why"].as_str()), (1, "another message has the same sequence number"));
    assert!(dead[0]["f"].contains("id-2"), "{dead:?}");
    archivers.end().await;
}

/// Checks a backlog whose messages do not fit into one batch.
async fn a_backlog_of_long_messages_is_archived_in_order(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    let long = |id: u64| submission(&room, Side::Guest, &format!("id-{id}"), &"x".repeat(8_000), "2023-03-23T08:15:07");
    let all: Vec<_> = (1..=400).map(long).collect();
    for batch in all.chunks(20) {
        node.accept(batch).await;
    }
    // After short messages, the next read requests more long messages than one batch may contain.
    node.submit_ids(&room, 401..=700).await;
    node.accept(&(701..=720).map(long).collect::<Vec<_>>()).await;
    let archivers = Archivers::of(&fixture, &node);
    until("all is archived", || async { archived(&node, &room).await == 720 }).await;
    let numbers: Vec<_> = stored(&fixture, &room).await.iter().map(|message| message.seq).collect();
    assert_eq!(numbers, (1..=720).collect::<Vec<_>>());
    assert_eq!((queue_len(&node, &room).await, dead_letters(&node, &room).await.len()), (0, 0));
    archivers.end().await;
}

async fn a_closed_room_leaves_the_broker_once_it_is_archived(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    node.submit_ids(&room, 1..=(MAX_BATCH as u64)).await;
    node.rooms.change(room.name, RoomChange::Close).await.unwrap();
    let all: Vec<_> = (1..=(MAX_BATCH as u64)).collect();
    assert_eq!(numbers(&node.cluster().recent.log_after(room.name, 0, 100).await.unwrap()), all);
    let archivers = Archivers::of(&fixture, &node);
    until("the log is gone", || async { node.cluster().recent.log_after(room.name, 0, 1).await.unwrap().is_empty() })
        .await;
    // After the room is reopened, its messages can be read and its sequence numbers continue.
    node.rooms.change(room.name, RoomChange::Resume).await.unwrap();
    assert_eq!(numbers(&node.history.after(key_of(&room), 0).await.unwrap().entries), all);
    assert_eq!(node.submit_ids(&room, [1_000]).await, [MAX_BATCH as u64 + 1]);
    archivers.end().await;
}
