//! Tests of the archive queues: leases, marks, dead letters, idle rooms and the logs of closed rooms.

use crate::backend::redis::testing::PT;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::backend::broker::queue::{ArchiveLease, ArchiveQueue, ArchivedMark, Idle, Swept};
use crate::backend::broker::testing::{Node, WAIT_LIMIT, until};
use crate::backend::redis::broker::{Capacity, RedisBroker};
use crate::domain::{Rng, StoreCause};
use crate::domain::{Room, Seq};

on_a_cluster!(
    accepted_messages_are_queued_in_order_with_their_epoch,
    one_node_at_a_time_holds_a_lease,
    leases_and_tickets_of_a_clock_that_was_ahead_are_not_valid,
    without_the_lease_a_call_has_no_effect,
    a_mark_never_decreases,
    closing_a_room_that_is_archived_deletes_its_log,
    the_log_of_a_closed_room_is_deleted_when_its_last_message_is_archived,
    a_change_that_the_archiver_applied_first_is_published_all_the_same,
    a_room_that_sql_no_longer_has_becomes_a_tombstone,
    a_dead_letter_is_kept_with_its_reason_and_stays_readable,
    leaving_and_retention_delete_the_dead_letters_of_a_room,
    a_message_deleted_by_retention_is_in_no_log_although_a_dead_letter_kept_it,
    a_full_queue_rejects_messages_until_it_is_archived,
    a_redis_without_memory_is_archived_and_accepts_again,
    an_idle_room_is_removed_unless_it_is_in_use,
    idle_rooms_are_removed_early_while_memory_is_short,
);

fn queue(node: &Node) -> Arc<dyn ArchiveQueue> {
    node.cluster().archive.clone()
}

fn mark(room: &Room, archived: Seq) -> ArchivedMark {
    ArchivedMark { room: room.name, archived, state: RoomState::Open, version: 0, stored: Some(0) }
}

/// Archives the messages of a room up to the sequence number `through`. They must be at the head of the queue.
pub(super) async fn archive_through(node: &Node, room: &Room, through: Seq) {
    let (queue, partition) = (queue(node), node.backend.log.partition_of(room.name));
    let lease = queue.lease(partition).await.unwrap().unwrap();
    let entries = queue.read(partition, 5_000).await.unwrap();
    let end = format!("\"seq\":{through}}}");
    let last = entries.iter().find(|entry| entry.frame.ends_with(end.as_bytes())).unwrap();
    let version = node.backend.states.status(&[room.name]).await.unwrap().remove(0).unwrap().version;
    let marks = [ArchivedMark { version, ..mark(room, through) }];
    assert!(queue.finish(partition, &lease, &last.position, 0, &marks).await.unwrap());
    queue.release(partition, &lease).await.unwrap();
}

async fn status(node: &Node, room: &Room) -> crate::backend::broker::RoomStatus {
    node.backend.states.status(&[room.name]).await.unwrap().remove(0).unwrap()
}

async fn log(node: &Node, room: &Room) -> Vec<Seq> {
    numbers(&node.cluster().recent.log_after(room.name, 0, 100).await.unwrap())
}

async fn accepted_messages_are_queued_in_order_with_their_epoch(fixture: Fixture) {
    let node = fixture.node().await;
    let one = node.room().await;
    let other = node.room_beside(&one).await;
    let batch = [guest(&one, "a"), guest(&other, "a"), guest(&one, "b"), guest(&one, "a")];
    node.accept(&batch).await;
    let partition = node.backend.log.partition_of(one.name);
    let epoch = node.epoch(partition).await.unwrap();
    let entries = queue(&node).read(partition, 100).await.unwrap();
    let queued: Vec<_> = entries.iter().map(|entry| (entry.room, entry.chatroom, entry.frame.clone())).collect();
    let frame = |at: usize, seq| frame_of(&batch[at], seq);
    let expected =
        [(one.name, one.id, frame(0, 1)), (other.name, other.id, frame(1, 1)), (one.name, one.id, frame(2, 2))];
    assert_eq!(queued, expected);
    assert!(entries.iter().all(|entry| entry.epoch == epoch));
    let logged = node.cluster().recent.log_after(one.name, 0, 1).await.unwrap();
    assert_eq!(entries[0].accepted_at, logged[0].accepted_at);
    assert_eq!(queue(&node).read(partition, 2).await.unwrap().len(), 2);
}

async fn one_node_at_a_time_holds_a_lease(fixture: Fixture) {
    let (one, other) = (fixture.node().await, fixture.node().await);
    let partition = one.backend.log.partition_of(one.unseeded_room().await.name);
    let lease = queue(&one).lease(partition).await.unwrap().unwrap();
    assert_eq!(queue(&other).lease(partition).await.unwrap(), None);
    assert_eq!(queue(&one).lease(partition).await.unwrap(), Some(lease.clone()), "its holder renews it");
    // Only the holder of a lease can release it.
    queue(&other).release(partition, &ArchiveLease("another".into())).await.unwrap();
    assert_eq!(queue(&other).lease(partition).await.unwrap(), None);
    queue(&one).release(partition, &lease).await.unwrap();
    assert!(queue(&other).lease(partition).await.unwrap().is_some());
    assert_eq!(queue(&one).lease(partition).await.unwrap(), None);
}

async fn leases_and_tickets_of_a_clock_that_was_ahead_are_not_valid(fixture: Fixture) {
    let (one, other) = (fixture.node().await, fixture.node().await);
    let room = one.unseeded_room().await;
    let partition = one.backend.log.partition_of(room.name);
    queue(&one).lease(partition).await.unwrap().unwrap();
    one.cluster().seeding.begin_seed(room.name).await.unwrap().unwrap();
    assert_eq!(queue(&other).lease(partition).await.unwrap(), None);
    // The remaining time of each lease and ticket becomes an hour, as if the server's clock was set back.
    for key in one.redis().keys_with(":archiver").await.iter().chain(&one.redis().keys_with(":seed:").await) {
        assert_eq!(one.redis().raw::<i64>("PEXPIRE", &[key, "3600000"]).await, 1);
    }
    assert!(queue(&other).lease(partition).await.unwrap().is_some());
    assert!(other.cluster().seeding.begin_seed(room.name).await.unwrap().is_some());
    assert_eq!(queue(&one).lease(partition).await.unwrap(), None);
}

async fn without_the_lease_a_call_has_no_effect(fixture: Fixture) {
    let (one, other) = (fixture.node().await, fixture.node().await);
    let room = one.room().await;
    one.submit_ids(&room, 1..=2).await;
    let partition = one.backend.log.partition_of(room.name);
    let lost = queue(&one).lease(partition).await.unwrap().unwrap();
    queue(&one).release(partition, &lost).await.unwrap();
    queue(&other).lease(partition).await.unwrap().unwrap();
    let last = queue(&one).read(partition, 10).await.unwrap().pop().unwrap().position;
    assert!(!queue(&one).finish(partition, &lost, &last, 0, &[mark(&room, 2)]).await.unwrap());
    assert!(!queue(&one).dead_letter(partition, &lost, &last, "why", false).await.unwrap());
    assert_eq!(status(&one, &room).await.archived, 0);
    assert_eq!(queue(&one).read(partition, 10).await.unwrap().len(), 2);
}

async fn a_mark_never_decreases(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    node.submit_ids(&room, 1..=3).await;
    archive_through(&node, &room, 2).await;
    let partition = node.backend.log.partition_of(room.name);
    let lease = queue(&node).lease(partition).await.unwrap().unwrap();
    assert!(queue(&node).finish(partition, &lease, "0-1", 0, &[mark(&room, 1)]).await.unwrap());
    assert_eq!(status(&node, &room).await.archived, 2);
    assert_eq!(queue(&node).read(partition, 10).await.unwrap().len(), 1);
}

async fn closing_a_room_that_is_archived_deletes_its_log(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    node.submit_ids(&room, 1..=3).await;
    archive_through(&node, &room, 3).await;
    assert_eq!(log(&node, &room).await, [1, 2, 3]);
    node.rooms.change(room.name, RoomChange::Close).await.unwrap();
    assert!(log(&node, &room).await.is_empty());
    // The log is deleted, but the message ids and the last sequence number are kept.
    node.rooms.change(room.name, RoomChange::Resume).await.unwrap();
    let outcomes = node.accept(&[guest(&room, "id-3"), guest(&room, "id-4")]).await;
    assert_eq!(outcomes, [Outcome::Known { seq: 3, frame: None }, Outcome::Accepted(4)]);
}

async fn the_log_of_a_closed_room_is_deleted_when_its_last_message_is_archived(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    node.submit_ids(&room, 1..=3).await;
    node.rooms.change(room.name, RoomChange::Close).await.unwrap();
    assert_eq!(log(&node, &room).await, [1, 2, 3]);
    archive_through(&node, &room, 2).await;
    assert_eq!(log(&node, &room).await, [1, 2, 3]);
    archive_through(&node, &room, 3).await;
    assert!(log(&node, &room).await.is_empty());
    assert_eq!(status(&node, &room).await.state, RoomState::Closed);
}

async fn a_change_that_the_archiver_applied_first_is_published_all_the_same(fixture: Fixture) {
    let node = fixture.node().await;
    // The database has committed the change and its event. The archiver marks the new state before the event is
    // processed.
    for (change, state, version) in
        [(RoomChange::Close, RoomState::Closed, 1), (RoomChange::Delete, RoomState::Deleted, u64::from(u32::MAX))]
    {
        let room = node.room().await;
        node.submit_ids(&room, [1]).await;
        let partition = node.backend.log.partition_of(room.name);
        let lease = queue(&node).lease(partition).await.unwrap().unwrap();
        let last = queue(&node).read(partition, 10).await.unwrap().pop().unwrap().position;
        let marks = [ArchivedMark { state, version, ..mark(&room, 1) }];
        assert!(queue(&node).finish(partition, &lease, &last, 0, &marks).await.unwrap());
        node.sink.clear();
        let event = Change { room: room.name, change, version: 1, notice: "{}".into() };
        node.backend.states.apply(event.clone()).await.unwrap();
        node.sink.until("the change", |calls| calls.contains(&SinkCall::Changed(event.clone()))).await;
        assert_eq!(status(&node, &room).await.state, state);
    }
}

async fn a_room_that_sql_no_longer_has_becomes_a_tombstone(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    node.submit_ids(&room, 1..=2).await;
    let partition = node.backend.log.partition_of(room.name);
    let lease = queue(&node).lease(partition).await.unwrap().unwrap();
    let last = queue(&node).read(partition, 10).await.unwrap().pop().unwrap().position;
    let gone = ArchivedMark { state: RoomState::Deleted, version: u64::from(u32::MAX), ..mark(&room, 2) };
    assert!(queue(&node).finish(partition, &lease, &last, 0, &[gone]).await.unwrap());
    assert_eq!(
        node.redis().keys_with(room.name.as_str()).await,
        [format!("{PT}{{{}}}:room:{}", partition.0, room.name)]
    );
    assert_eq!(node.accept(&[guest(&room, "id-3")]).await, [Outcome::Deleted]);
}

async fn a_dead_letter_is_kept_with_its_reason_and_stays_readable(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    node.submit_ids(&room, 1..=3).await;
    let partition = node.backend.log.partition_of(room.name);
    let lease = queue(&node).lease(partition).await.unwrap().unwrap();
    let entries = queue(&node).read(partition, 10).await.unwrap();
    for _ in 0..2 {
        assert!(queue(&node).dead_letter(partition, &lease, &entries[1].position, "poison", false).await.unwrap());
    }
    let left = queue(&node).read(partition, 10).await.unwrap();
    assert_eq!(
        left.iter().map(|entry| &entry.position).collect::<Vec<_>>(),
        [&entries[0].position, &entries[2].position]
    );
    let dead: Vec<(String, std::collections::BTreeMap<String, String>)> =
        node.redis().raw("XRANGE", &[&format!("{PT}{{{}}}:dead", partition.0), "-", "+"]).await;
    assert_eq!(dead.len(), 1, "burying twice is harmless");
    assert_eq!((dead[0].1["why"].as_str(), dead[0].1["n"].as_str()), ("poison", room.name.as_str()));
    // `archived` stays below the number of the dead letter. The log therefore keeps the dead letter, even if the room
    // is closed.
    assert!(queue(&node).finish(partition, &lease, &entries[2].position, 0, &[mark(&room, 3)]).await.unwrap());
    assert_eq!(status(&node, &room).await.archived, 1);
    assert!(queue(&node).read(partition, 10).await.unwrap().is_empty());
    node.rooms.change(room.name, RoomChange::Close).await.unwrap();
    assert_eq!(log(&node, &room).await, [1, 2, 3]);
}

/// Moves the second message of a room to the dead letters, and archives its other messages.
async fn with_dead_letter(node: &Node, room: &Room) {
    let partition = node.backend.log.partition_of(room.name);
    let lease = queue(node).lease(partition).await.unwrap().unwrap();
    let entries = queue(node).read(partition, 10).await.unwrap();
    assert!(queue(node).dead_letter(partition, &lease, &entries[1].position, "poison", false).await.unwrap());
    assert!(queue(node).finish(partition, &lease, &entries[2].position, 0, &[mark(room, 3)]).await.unwrap());
}

async fn leaving_and_retention_delete_the_dead_letters_of_a_room(fixture: Fixture) {
    let node = fixture.node().await;
    let left = node.room().await;
    let (purged, other) = (node.room_beside(&left).await, node.room_beside(&left).await);
    for room in [&left, &purged, &other] {
        node.submit_ids(room, 1..=3).await;
        with_dead_letter(&node, room).await;
    }
    let stream = format!("{PT}{{{}}}:dead", node.backend.log.partition_of(left.name).0);
    let rooms = || async {
        let dead: Vec<(String, std::collections::BTreeMap<String, String>)> =
            node.redis().raw("XRANGE", &[&stream, "-", "+"]).await;
        dead.into_iter().map(|(_, fields)| fields["n"].parse::<crate::domain::RoomName>().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(rooms().await, [left.name, purged.name, other.name]);
    node.cluster().recent.purge(purged.name, 1).await.unwrap();
    assert_eq!(rooms().await, [left.name, purged.name, other.name], "retention has not reached it");
    node.cluster().recent.purge(purged.name, 2).await.unwrap();
    assert_eq!(rooms().await, [left.name, other.name]);
    node.rooms.change(left.name, RoomChange::Delete).await.unwrap();
    assert_eq!(rooms().await, [other.name]);
    node.rooms.change(other.name, RoomChange::Delete).await.unwrap();
    assert_eq!(node.redis().keys_with(":dead").await, Vec::<String>::new());
}

async fn a_message_deleted_by_retention_is_in_no_log_although_a_dead_letter_kept_it(fixture: Fixture) {
    let node = fixture.node().await;
    let (room, other) = (node.room().await, node.room().await);
    node.submit_ids(&room, 1..=3).await;
    let partition = node.backend.log.partition_of(room.name);
    let lease = queue(&node).lease(partition).await.unwrap().unwrap();
    let entries = queue(&node).read(partition, 10).await.unwrap();
    assert!(queue(&node).dead_letter(partition, &lease, &entries[1].position, "poison", false).await.unwrap());
    assert!(queue(&node).finish(partition, &lease, &entries[2].position, 0, &[mark(&room, 3)]).await.unwrap());
    node.rooms.change(room.name, RoomChange::Close).await.unwrap();
    assert_eq!(log(&node, &room).await, [1, 2, 3]);
    for (through, left) in [(0, vec![1, 2, 3]), (1, vec![2, 3]), (3, vec![]), (3, vec![])] {
        node.cluster().recent.purge(room.name, through).await.unwrap();
        assert_eq!(log(&node, &room).await, left);
    }
    // After the purge, the dead letter no longer limits `archived`, and sequence numbers continue.
    assert_eq!((status(&node, &room).await.archived, status(&node, &room).await.seq), (3, 3));
    node.rooms.change(room.name, RoomChange::Resume).await.unwrap();
    assert_eq!(node.submit_ids(&room, [4]).await, [4]);
    node.cluster().recent.purge(room.name, 3).await.unwrap();
    assert_eq!((log(&node, &room).await, status(&node, &room).await.archived), (vec![4], 3));
    // A purge of a room that is not in Redis succeeds and does not create the room.
    let unknown = node.unseeded_room().await;
    node.cluster().recent.purge(unknown.name, 9).await.unwrap();
    assert!(node.redis().keys_with(unknown.name.as_str()).await.is_empty());
    assert_eq!(status(&node, &other).await.archived, 0);
}

async fn a_full_queue_rejects_messages_until_it_is_archived(fixture: Fixture) {
    let node = fixture.node().await;
    let one = node.room().await;
    let other = node.room_beside(&one).await;
    let small = RedisBroker::new(node.redis().clone(), Rng::from_seed(1), 0)
        .with_capacity(Capacity { queue_messages: 3, ..Capacity::DEFAULT });
    let partition = node.backend.log.partition_of(one.name);
    let batch = [
        guest(&one, "id-1"),
        guest(&one, "id-2"),
        guest(&one, "id-1"),
        guest(&one, "id-3"),
        guest(&one, "id-4"),
        guest(&one, "id-1"),
        guest(&other, "id-1"),
    ];
    let outcomes = small.accept(partition, &batch.iter().collect::<Vec<_>>()).await.unwrap();
    let known = |seq| Outcome::Known { seq, frame: Some(frame_of(&batch[0], seq)) };
    // After a message of a room is rejected, all later messages of the room are rejected too. This preserves their
    // order.
    let full = Outcome::Full;
    assert_eq!(
        outcomes,
        [
            Outcome::Accepted(1),
            Outcome::Accepted(2),
            known(1),
            Outcome::Accepted(3),
            full.clone(),
            full.clone(),
            full.clone()
        ]
    );
    assert_eq!(small.accept(partition, &[&batch[0], &batch[4]]).await.unwrap(), [known(1), full]);
    let backlog = small.backlog(partition).await.unwrap();
    assert_eq!((backlog.messages, backlog.share), (3, 1.0));
    // The limit in bytes is twice as large as these three messages, and the limit in messages is far away.
    let bytes: usize = [(0, 1), (1, 2), (3, 3)].iter().map(|(at, seq)| frame_of(&batch[*at], *seq).len()).sum();
    let wide = RedisBroker::new(node.redis().clone(), Rng::from_seed(1), 0)
        .with_capacity(Capacity { queue_bytes: 2 * bytes as u64, ..Capacity::DEFAULT });
    assert_eq!(wide.backlog(partition).await.unwrap().share, 0.5);
    archive_through(&node, &one, 3).await;
    let outcomes = small.accept(partition, &[&batch[4], &batch[6]]).await.unwrap();
    assert_eq!(outcomes, [Outcome::Accepted(4), Outcome::Accepted(1)]);
}

async fn an_idle_room_is_removed_unless_it_is_in_use(fixture: Fixture) {
    let (node, dying) = (fixture.node().await, fixture.node().await);
    let archived = node.room().await;
    let (occupied, waiting, left) =
        (node.room_beside(&archived).await, node.room_beside(&archived).await, node.room_beside(&archived).await);
    let deleted = node.room_beside(&archived).await;
    let partition = node.backend.log.partition_of(archived.name);
    node.submit_ids(&archived, 1..=2).await;
    archive_through(&node, &archived, 2).await;
    node.submit_ids(&waiting, [1]).await;
    node.backend.states.set_members(occupied.name, 1, 0).await.unwrap();
    dying.backend.states.set_members(left.name, 1, 0).await.unwrap();
    dying.redis().sign_off(Duration::ZERO).await.unwrap();
    node.rooms.change(deleted.name, RoomChange::Delete).await.unwrap();

    assert_eq!(queue(&node).remove_idle(partition, idle(Duration::from_secs(3_600))).await.unwrap().removed, 0);
    let mut removed = 0;
    // A room that was used in the current second is not removed, so the call is repeated.
    let began = std::time::Instant::now();
    while removed < 2 && began.elapsed() < WAIT_LIMIT {
        removed += queue(&node).remove_idle(partition, idle(Duration::ZERO)).await.unwrap().removed;
    }
    assert_eq!(removed, 2);
    let names = [&archived, &left, &occupied, &waiting, &deleted].map(|room| room.name);
    let there: Vec<_> = node.backend.states.status(&names).await.unwrap().iter().map(Option::is_some).collect();
    assert_eq!(there, [false, false, true, true, true]);
    for gone in [&archived, &left] {
        assert_eq!(node.redis().keys_with(gone.name.as_str()).await, Vec::<String>::new());
    }
}

/// Returns idle limits that remove a room after `age`, even if memory is not low.
pub(super) fn idle(age: Duration) -> Idle {
    Idle { usual: age, short_of_memory: age }
}

async fn idle_rooms_are_removed_early_while_memory_is_short(fixture: Fixture) {
    let node = fixture.node().await;
    let (archived, occupied) = (node.room().await, node.room().await);
    for room in [&archived, &occupied] {
        node.submit_ids(room, 1..=2).await;
        archive_through(&node, room, 2).await;
    }
    node.backend.states.set_members(occupied.name, 1, 0).await.unwrap();
    let idle = Idle { usual: Duration::from_secs(3_600), short_of_memory: Duration::ZERO };
    let sweep = |room: &Room| {
        let partition = node.backend.log.partition_of(room.name);
        let queue = queue(&node);
        async move { queue.remove_idle(partition, idle).await.unwrap() }
    };
    for room in [&archived, &occupied] {
        assert_eq!(sweep(room).await, Swept { removed: 0, is_memory_short: false });
    }
    let _: Vec<String> = node.redis().everywhere("CONFIG", &["SET", "maxmemory", "1"]).await;
    assert!(sweep(&occupied).await.is_memory_short);
    // A room that was used in the current second is not removed, so the calls are repeated.
    until("the archived room is removed and the log of the other", || async {
        sweep(&archived).await;
        sweep(&occupied).await;
        node.backend.states.status(&[archived.name]).await.unwrap() == [None]
            && node.cluster().recent.log_after(occupied.name, 0, 10).await.unwrap().is_empty()
    })
    .await;
    let _: Vec<String> = node.redis().everywhere("CONFIG", &["SET", "maxmemory", "0"]).await;
    let there = node.backend.states.status(&[archived.name, occupied.name]).await.unwrap();
    assert_eq!(there.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true]);
    assert_eq!(node.submit_ids(&occupied, [3]).await, [3]);
    assert_eq!(log(&node, &occupied).await, [3]);
}

async fn a_redis_without_memory_is_archived_and_accepts_again(fixture: Fixture) {
    let node = fixture.node().await;
    let (room, closed) = (node.room().await, node.room().await);
    assert_eq!(node.submit_ids(&room, 1..=3).await, [1, 2, 3]);
    let _: Vec<String> = node.redis().everywhere("CONFIG", &["SET", "maxmemory", "1"]).await;
    let partition = node.backend.log.partition_of(room.name);
    assert!(node.backend.log.accept(partition, &[&guest(&room, "refused")]).await.is_err());
    assert!(node.redis().try_writing().await.is_err());
    assert!(node.redis().refuses_writes().is_some_and(|fault| fault.cause == StoreCause::OutOfMemory));
    // The following calls continue to work: heartbeats, connection counts and calls that free memory.
    node.redis().heartbeat().await.unwrap();
    node.backend.states.set_members(room.name, 1, 0).await.unwrap();
    node.rooms.change(closed.name, RoomChange::Close).await.unwrap();
    archive_through(&node, &room, 3).await;
    assert_eq!(queue(&node).read(partition, 10).await.unwrap().len(), 0);
    let _: Vec<String> = node.redis().everywhere("CONFIG", &["SET", "maxmemory", "0"]).await;
    assert_eq!(node.submit_ids(&room, [4]).await, [4]);
    node.redis().try_writing().await.unwrap();
    assert_eq!(node.redis().refuses_writes(), None);
}
