//! Tests of seeding: the loading of a room from the database, and the sequence number with which the room continues.

use super::*;
use crate::backend::broker::testing::{Node, key_of, until};
use crate::backend::broker::{MemberCounts, Seed};
use crate::backend::redis::testing::PT;
use crate::chat::rooms::RoomError;
use crate::domain::{Room, Seq};

on_a_cluster!(
    an_unseeded_room_waits_while_others_go_on,
    one_of_two_seeders_gets_the_ticket,
    a_change_revokes_the_ticket,
    a_ticket_is_valid_for_its_own_room_and_holder,
    a_deletion_leaves_a_tombstone_and_nothing_else,
    a_room_without_a_row_is_marked_as_deleted,
    a_room_seeded_in_the_same_epoch_continues_without_a_gap,
    a_room_seeded_in_another_epoch_skips_ahead,
    another_epoch_of_the_server_makes_a_room_skip_ahead_once,
    an_emptied_server_assigns_no_number_again,
    a_seeded_room_deduplicates_its_old_ids,
    a_closed_room_is_seeded_closed,
    concurrent_joins_seed_a_room_once,
    the_first_visit_of_a_new_room_does_not_query_the_database,
    a_room_is_created_while_redis_is_unavailable,
);

/// Builds a seed with the sequence number `seq`. Uses the current epoch if `epoch` is `None`.
async fn seed_of(node: &Node, room: &Room, seq: Seq, epoch: Option<&str>) -> Seed {
    let present = node.epoch(node.backend.log.partition_of(room.name)).await;
    Seed {
        chatroom: room.id,
        host: room.host,
        state: RoomState::Open,
        version: 0,
        seq,
        epoch: epoch.map_or(present, |epoch| Some(epoch.to_owned())),
        last_at: room.created_at,
        ids: Vec::new(),
    }
}

async fn an_unseeded_room_waits_while_others_go_on(fixture: Fixture) {
    let node = fixture.node().await;
    let there = node.room().await;
    let absent = loop {
        let room = node.unseeded_room().await;
        if node.backend.log.partition_of(room.name) == node.backend.log.partition_of(there.name) {
            break room;
        }
    };
    let batch = [guest(&absent, "a"), guest(&there, "a"), guest(&absent, "b"), guest(&there, "b")];
    let outcomes = node.accept(&batch).await;
    assert_eq!(outcomes, [Outcome::Unseeded, Outcome::Accepted(1), Outcome::Unseeded, Outcome::Accepted(2)]);
    // The rejected message has no effect, so the seeded room begins with sequence number 1.
    node.seed(absent.name).await;
    assert_eq!(node.accept(&[batch[0].clone(), batch[2].clone()]).await, [Outcome::Accepted(1), Outcome::Accepted(2)]);
}

async fn one_of_two_seeders_gets_the_ticket(fixture: Fixture) {
    let (one, other) = (fixture.node().await, fixture.node().await);
    let room = one.unseeded_room().await;
    let ticket = one.cluster().seeding.begin_seed(room.name).await.unwrap().unwrap();
    assert!(other.cluster().seeding.begin_seed(room.name).await.unwrap().is_none());
    let seed = seed_of(&one, &room, 7, None).await;
    assert!(one.cluster().seeding.finish_seed(room.name, ticket.clone(), seed.clone()).await.unwrap());
    assert!(!one.cluster().seeding.finish_seed(room.name, ticket, seed).await.unwrap());
    assert!(other.cluster().seeding.begin_seed(room.name).await.unwrap().is_none());
    assert_eq!(other.submit_ids(&room, [1]).await, [8]);
}

async fn a_change_revokes_the_ticket(fixture: Fixture) {
    let (node, other) = (fixture.node().await, fixture.node().await);
    for change in [RoomChange::Close, RoomChange::Resume] {
        let room = node.unseeded_room().await;
        let ticket = node.cluster().seeding.begin_seed(room.name).await.unwrap().unwrap();
        let change = Change { room: room.name, change, version: 1, notice: "{}".into() };
        other.backend.states.apply(change).await.unwrap();
        let seed = seed_of(&node, &room, 0, None).await;
        assert!(!node.cluster().seeding.finish_seed(room.name, ticket, seed.clone()).await.unwrap());
        assert_eq!(node.backend.states.status(&[room.name]).await.unwrap(), [None]);
        // For a new attempt, the node reads the state from the database again.
        let ticket = node.cluster().seeding.begin_seed(room.name).await.unwrap().unwrap();
        assert!(node.cluster().seeding.finish_seed(room.name, ticket, Seed { version: 1, ..seed }).await.unwrap());
    }
}

async fn a_ticket_is_valid_for_its_own_room_and_holder(fixture: Fixture) {
    let node = fixture.node().await;
    let (room, other) = (node.unseeded_room().await, node.unseeded_room().await);
    let ticket = node.cluster().seeding.begin_seed(room.name).await.unwrap().unwrap();
    node.cluster().seeding.begin_seed(other.name).await.unwrap().unwrap();
    assert!(
        !node.cluster().seeding.finish_seed(other.name, ticket, seed_of(&node, &other, 0, None).await).await.unwrap()
    );
    let key = node.redis().keys_with(&format!("seed:{}", room.name)).await.remove(0);
    let left: i64 = node.redis().raw("PTTL", &[&key]).await;
    assert!((1..=10_000).contains(&left), "{left}");
}

async fn a_deletion_leaves_a_tombstone_and_nothing_else(fixture: Fixture) {
    let node = fixture.node().await;
    // The first room is in the broker. A node has a ticket to seed the second room.
    let (room, absent) = (node.room().await, node.unseeded_room().await);
    node.submit_ids(&room, 1..=3).await;
    node.backend.states.set_members(room.name, 1, 0).await.unwrap();
    let ticket = node.cluster().seeding.begin_seed(absent.name).await.unwrap().unwrap();
    for gone in [&room, &absent] {
        node.rooms.change(gone.name, RoomChange::Delete).await.unwrap();
        let keys = node.redis().keys_with(gone.name.as_str()).await;
        let tombstone = format!("{PT}{{{}}}:room:{}", node.backend.log.partition_of(gone.name).0, gone.name);
        assert_eq!(keys, std::slice::from_ref(&tombstone));
        let fields: std::collections::BTreeMap<String, String> = node.redis().raw("HGETALL", &[&tombstone]).await;
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["state", "sv"]);
        let left: i64 = node.redis().raw("TTL", &[&tombstone]).await;
        assert!((1..=24 * 3_600).contains(&left), "{left}");
        let idle: Option<String> =
            node.redis().raw("ZSCORE", &[&tombstone.replace("room:", "idle:"), gone.name.as_str()]).await;
        assert_eq!(idle, None);

        assert!(node.cluster().seeding.begin_seed(gone.name).await.unwrap().is_none());
        assert_eq!(node.accept(&[guest(gone, "late")]).await, [Outcome::Deleted]);
        // A deleted room is not created again when a node sets its connection counts or closes it.
        let status = node.backend.states.set_members(gone.name, 1, 1).await.unwrap().unwrap();
        assert_eq!((status.state, status.guests, status.hosts), (RoomState::Deleted, 0, 0));
        let late = Change { room: gone.name, change: RoomChange::Close, version: 1, notice: "{}".into() };
        node.backend.states.apply(late).await.unwrap();
        assert_eq!(node.redis().keys_with(gone.name.as_str()).await, keys);
    }
    let seed = seed_of(&node, &absent, 0, None).await;
    assert!(!node.cluster().seeding.finish_seed(absent.name, ticket, seed).await.unwrap());
}

async fn a_room_without_a_row_is_marked_as_deleted(fixture: Fixture) {
    let node = fixture.node().await;
    let name = RoomName::from_random([3; 16]);
    assert!(matches!(node.rooms.seed(name).await, Err(RoomError::NotFound)));
    let status = node.backend.states.status(&[name]).await.unwrap().remove(0).unwrap();
    assert_eq!(status.state, RoomState::Deleted);
}

async fn a_room_seeded_in_the_same_epoch_continues_without_a_gap(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.unseeded_room().await;
    let ticket = node.cluster().seeding.begin_seed(room.name).await.unwrap().unwrap();
    let seed = seed_of(&node, &room, 41, None).await;
    assert!(node.cluster().seeding.finish_seed(room.name, ticket, seed).await.unwrap());
    let status = node.backend.states.status(&[room.name]).await.unwrap().remove(0).unwrap();
    assert_eq!((status.seq, status.archived), (41, 41));
    assert_eq!(node.submit_ids(&room, 1..=2).await, [42, 43]);
    let calls = node.sink.publications(room.name, 43).await;
    assert_eq!(calls.iter().map(|calls| (calls.0, calls.1)).collect::<Vec<_>>(), [(41, 42), (42, 43)]);
}

async fn a_room_seeded_in_another_epoch_skips_ahead(fixture: Fixture) {
    let node = fixture.node().await;
    for epoch in [Some("of long ago"), None] {
        let room = node.unseeded_room().await;
        let ticket = node.cluster().seeding.begin_seed(room.name).await.unwrap().unwrap();
        let seed = Seed { epoch: epoch.map(str::to_owned), ..seed_of(&node, &room, 41, None).await };
        assert!(node.cluster().seeding.finish_seed(room.name, ticket, seed).await.unwrap());
        let numbers = node.submit_ids(&room, 1..=2).await;
        assert!(numbers[0] >= 41 + 10_000 && numbers[1] == numbers[0] + 1, "{numbers:?}");
        // A connected node receives a publication whose `prev` shows the gap. It can read the messages before the gap.
        let calls = node.sink.publications(room.name, numbers[1]).await;
        assert_eq!((calls[0].0, calls[0].1), (41, numbers[0]));
    }
}

async fn another_epoch_of_the_server_makes_a_room_skip_ahead_once(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    assert_eq!(node.submit_ids(&room, 1..=2).await, [1, 2]);
    let partition = node.backend.log.partition_of(room.name);
    let before = node.epoch(partition).await;
    let _: Vec<String> = node.redis().everywhere("DEBUG", &["CHANGE-REPL-ID"]).await;
    assert_ne!(node.epoch(partition).await, before);
    let numbers = node.submit_ids(&room, 3..=5).await;
    assert!(numbers[0] >= 10_002 && numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2], "{numbers:?}");
    assert_eq!(node.sink.publications(room.name, numbers[0]).await[2].0, 2);
}

async fn an_emptied_server_assigns_no_number_again(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    assert_eq!(node.submit_ids(&room, 1..=3).await, [1, 2, 3]);
    let epoch = node.epoch(node.backend.log.partition_of(room.name)).await;
    let _: Vec<String> = node.redis().everywhere("FLUSHALL", &[]).await;
    node.redis().verify().await.unwrap();
    // None of the three messages is in the database.
    let ticket = node.cluster().seeding.begin_seed(room.name).await.unwrap().unwrap();
    let seed = seed_of(&node, &room, 0, epoch.as_deref()).await;
    assert!(node.cluster().seeding.finish_seed(room.name, ticket, seed).await.unwrap());
    assert!(node.submit_ids(&room, [4]).await[0] > 10_000);
}

async fn a_seeded_room_deduplicates_its_old_ids(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.unseeded_room().await;
    let ticket = node.cluster().seeding.begin_seed(room.name).await.unwrap().unwrap();
    let ids = vec![(Side::Guest, "id-1".parse().unwrap(), 1), (Side::Host, "id-2".parse().unwrap(), 2)];
    let seed = Seed { ids, ..seed_of(&node, &room, 2, None).await };
    assert!(node.cluster().seeding.finish_seed(room.name, ticket, seed).await.unwrap());
    // The frame is in the database, but not in Redis.
    let outcomes = node.accept(&[guest(&room, "id-1"), guest(&room, "id-2")]).await;
    assert_eq!(outcomes, [Outcome::Known { seq: 1, frame: None }, Outcome::Accepted(3)]);
}

async fn a_closed_room_is_seeded_closed(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.unseeded_room().await;
    fixture.store.rooms().change(room.name, RoomChange::Close, room.created_at).await.unwrap();
    node.seed(room.name).await;
    assert_eq!(node.accept(&[guest(&room, "a")]).await, [Outcome::Closed]);
}

async fn concurrent_joins_seed_a_room_once(fixture: Fixture) {
    let nodes = [fixture.node().await, fixture.node().await];
    let room = nodes[0].unseeded_room().await;
    let all = (0..10).map(|at| {
        let (node, name) = (nodes[at % 2].clone(), room.name);
        tokio::spawn(async move {
            node.rooms.enter(name, MemberCounts { guests: 1, ..MemberCounts::default() }).await.unwrap()
        })
    });
    for status in all.collect::<Vec<_>>() {
        assert_eq!(status.await.unwrap().state, RoomState::Open);
    }
    until("both nodes count", || async {
        nodes[0].backend.states.status(&[room.name]).await.unwrap()[0].as_ref().unwrap().guests == 2
    })
    .await;
}

async fn the_first_visit_of_a_new_room_does_not_query_the_database(fixture: Fixture) {
    let (creator, other) = (fixture.node().await, fixture.node().await);
    for joined in [&creator, &other] {
        let room = creator.open_room().await;
        assert_eq!(joined.redis().keys_with(room.name.as_str()).await.len(), 1, "no ticket is left");
        // The row is deleted from the database only, so a query for it would find nothing.
        fixture.store.rooms().change(room.name, RoomChange::Delete, room.created_at).await.unwrap();
        let _: Vec<String> = joined.redis().everywhere("CONFIG", &["RESETSTAT"]).await;
        let owner = joined.rooms.owner_for_join(room.name).await.unwrap().unwrap();
        assert_eq!((owner.key, owner.host), (key_of(&room), room.host));
        let guest = MemberCounts { guests: 1, ..MemberCounts::default() };
        let status = joined.rooms.enter(room.name, guest).await.unwrap();
        assert_eq!((status.state, status.seq, status.guests), (RoomState::Open, 0, 1));
        assert!(joined.history.join_frame(owner.key, status.seq).await.unwrap().framed.is_none());
        let stats = joined.redis().everywhere::<String>("INFO", &["commandstats"]).await.concat();
        let calls = |command: &str| -> u32 {
            let counts = stats.lines().filter_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
            counts.map(|counts| counts.split(',').next().unwrap().parse::<u32>().unwrap()).sum()
        };
        let of_room = ["hmget", "hgetall", "hset", "hdel", "xrevrange", "xrange", "set"].map(calls);
        // The node that created the room has its owner in memory.
        let owner_query = u32::from(!std::ptr::eq(joined, &creator));
        assert_eq!(of_room, [owner_query, 1, 1, 0, 0, 0, 0]);
    }
}

async fn a_room_is_created_while_redis_is_unavailable(fixture: Fixture) {
    let node = fixture.node().await;
    fixture.servers.as_ref().unwrap().freeze();
    let room = node.open_room().await;
    fixture.servers.as_ref().unwrap().thaw();
    let status = node.rooms.enter(room.name, MemberCounts::default()).await.unwrap();
    assert_eq!((status.chatroom, status.seq), (room.id, 0));
    // The epoch of the room is unknown, so its numbers skip ahead.
    assert!(node.submit_ids(&room, [1]).await[0] > 10_000);
}
