//! Tests of seeding: how a room is loaded from SQL, and with which number it continues.

use super::*;
use crate::backend::broker::testing::{Node, until};
use crate::backend::broker::{MemberCounts, Seed};
use crate::backend::redis::testing::PT;
use crate::chat::rooms::RoomError;
use crate::domain::{Room, Seq};

on_a_cluster!(
    an_unseeded_room_waits_while_others_go_on,
    one_of_two_seeders_gets_the_ticket,
    a_change_takes_the_ticket_away,
    a_ticket_is_good_for_its_own_room_and_holder,
    a_deletion_leaves_a_tombstone_and_nothing_else,
    a_room_without_a_row_is_buried,
    a_room_seeded_in_the_same_life_goes_on_without_a_jump,
    a_room_seeded_in_another_life_jumps,
    another_life_of_the_server_makes_a_room_jump_once,
    a_server_that_was_emptied_gives_no_number_again,
    a_seeded_room_knows_its_old_ids,
    a_closed_room_is_seeded_closed,
    many_who_need_a_room_seed_it_once,
);

/// Builds a seed with the given number and epoch.
async fn seed_of(node: &Node, room: &Room, seq: Seq, life: Option<&str>) -> Seed {
    let present = node.broker.life(node.broker.partition_of(room.name)).await.unwrap();
    Seed {
        chatroom: room.id,
        host: room.host,
        state: RoomState::Open,
        version: 0,
        seq,
        life: life.map_or(present, |life| Some(life.to_owned())),
        last_at: room.created_at,
        ids: Vec::new(),
    }
}

async fn an_unseeded_room_waits_while_others_go_on(stage: Stage) {
    let node = stage.node().await;
    let there = node.room().await;
    let absent = loop {
        let room = node.unseeded_room().await;
        if node.broker.partition_of(room.name) == node.broker.partition_of(there.name) {
            break room;
        }
    };
    let batch = [guest(&absent, "a"), guest(&there, "a"), guest(&absent, "b"), guest(&there, "b")];
    let outcomes = node.accept(&batch).await;
    assert_eq!(outcomes, [Outcome::Unseeded, Outcome::Accepted(1), Outcome::Unseeded, Outcome::Accepted(2)]);
    // Nothing of it was kept: once seeded, the room begins with number 1.
    node.seed(absent.name).await;
    assert_eq!(node.accept(&[batch[0].clone(), batch[2].clone()]).await, [Outcome::Accepted(1), Outcome::Accepted(2)]);
}

async fn one_of_two_seeders_gets_the_ticket(stage: Stage) {
    let (one, other) = (stage.node().await, stage.node().await);
    let room = one.unseeded_room().await;
    let ticket = one.broker.begin_seed(room.name).await.unwrap().unwrap();
    assert!(other.broker.begin_seed(room.name).await.unwrap().is_none());
    let seed = seed_of(&one, &room, 7, None).await;
    assert!(one.broker.finish_seed(room.name, ticket.clone(), seed.clone()).await.unwrap());
    assert!(!one.broker.finish_seed(room.name, ticket, seed).await.unwrap());
    assert!(other.broker.begin_seed(room.name).await.unwrap().is_none());
    assert_eq!(other.say(&room, [1]).await, [8]);
}

async fn a_change_takes_the_ticket_away(stage: Stage) {
    let (node, other) = (stage.node().await, stage.node().await);
    for change in [RoomChange::Close, RoomChange::Resume] {
        let room = node.unseeded_room().await;
        let ticket = node.broker.begin_seed(room.name).await.unwrap().unwrap();
        let change = Change { room: room.name, change, version: 1, notice: "{}".into() };
        other.broker.apply(change).await.unwrap();
        let seed = seed_of(&node, &room, 0, None).await;
        assert!(!node.broker.finish_seed(room.name, ticket, seed.clone()).await.unwrap());
        assert_eq!(node.broker.status(&[room.name]).await.unwrap(), [None]);
        // A new attempt reads SQL again.
        let ticket = node.broker.begin_seed(room.name).await.unwrap().unwrap();
        assert!(node.broker.finish_seed(room.name, ticket, Seed { version: 1, ..seed }).await.unwrap());
    }
}

async fn a_ticket_is_good_for_its_own_room_and_holder(stage: Stage) {
    let node = stage.node().await;
    let (room, other) = (node.unseeded_room().await, node.unseeded_room().await);
    let ticket = node.broker.begin_seed(room.name).await.unwrap().unwrap();
    node.broker.begin_seed(other.name).await.unwrap().unwrap();
    assert!(!node.broker.finish_seed(other.name, ticket, seed_of(&node, &other, 0, None).await).await.unwrap());
    let key = node.redis().keys_with(&format!("seed:{}", room.name)).await.remove(0);
    let left: i64 = node.redis().raw("PTTL", &[&key]).await;
    assert!((1..=10_000).contains(&left), "{left}");
}

async fn a_deletion_leaves_a_tombstone_and_nothing_else(stage: Stage) {
    let node = stage.node().await;
    // One room is seeded, the other is being seeded.
    let (room, absent) = (node.room().await, node.unseeded_room().await);
    node.say(&room, 1..=3).await;
    node.broker.set_members(room.name, 1, 0).await.unwrap();
    let ticket = node.broker.begin_seed(absent.name).await.unwrap().unwrap();
    for gone in [&room, &absent] {
        node.rooms.change(gone.name, RoomChange::Delete).await.unwrap();
        let keys = node.redis().keys_with(gone.name.as_str()).await;
        let tombstone = format!("{PT}{{{}}}:room:{}", node.broker.partition_of(gone.name).0, gone.name);
        assert_eq!(keys, std::slice::from_ref(&tombstone));
        let fields: std::collections::BTreeMap<String, String> = node.redis().raw("HGETALL", &[&tombstone]).await;
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["state", "sv"]);
        let left: i64 = node.redis().raw("TTL", &[&tombstone]).await;
        assert!((1..=24 * 3_600).contains(&left), "{left}");
        let idle: Option<String> =
            node.redis().raw("ZSCORE", &[&tombstone.replace("room:", "idle:"), gone.name.as_str()]).await;
        assert_eq!(idle, None);

        assert!(node.broker.begin_seed(gone.name).await.unwrap().is_none());
        assert_eq!(node.accept(&[guest(gone, "late")]).await, [Outcome::Deleted]);
        // Setting its counts, or closing it, does not recreate it.
        let status = node.broker.set_members(gone.name, 1, 1).await.unwrap().unwrap();
        assert_eq!((status.state, status.guests, status.hosts), (RoomState::Deleted, 0, 0));
        let late = Change { room: gone.name, change: RoomChange::Close, version: 1, notice: "{}".into() };
        node.broker.apply(late).await.unwrap();
        assert_eq!(node.redis().keys_with(gone.name.as_str()).await, keys);
    }
    let seed = seed_of(&node, &absent, 0, None).await;
    assert!(!node.broker.finish_seed(absent.name, ticket, seed).await.unwrap());
}

async fn a_room_without_a_row_is_buried(stage: Stage) {
    let node = stage.node().await;
    let name = RoomName::from_random([3; 16]);
    assert!(matches!(node.rooms.seed(name).await, Err(RoomError::NotFound)));
    let status = node.broker.status(&[name]).await.unwrap().remove(0).unwrap();
    assert_eq!(status.state, RoomState::Deleted);
}

async fn a_room_seeded_in_the_same_life_goes_on_without_a_jump(stage: Stage) {
    let node = stage.node().await;
    let room = node.unseeded_room().await;
    let ticket = node.broker.begin_seed(room.name).await.unwrap().unwrap();
    let seed = seed_of(&node, &room, 41, None).await;
    assert!(node.broker.finish_seed(room.name, ticket, seed).await.unwrap());
    let status = node.broker.status(&[room.name]).await.unwrap().remove(0).unwrap();
    assert_eq!((status.seq, status.archived), (41, 41));
    assert_eq!(node.say(&room, 1..=2).await, [42, 43]);
    let heard = node.ear.publications(room.name, 43).await;
    assert_eq!(heard.iter().map(|heard| (heard.0, heard.1)).collect::<Vec<_>>(), [(41, 42), (42, 43)]);
}

async fn a_room_seeded_in_another_life_jumps(stage: Stage) {
    let node = stage.node().await;
    for life in [Some("of long ago"), None] {
        let room = node.unseeded_room().await;
        let ticket = node.broker.begin_seed(room.name).await.unwrap().unwrap();
        let seed = Seed { life: life.map(str::to_owned), ..seed_of(&node, &room, 41, None).await };
        assert!(node.broker.finish_seed(room.name, ticket, seed).await.unwrap());
        let numbers = node.say(&room, 1..=2).await;
        assert!(numbers[0] >= 41 + 10_000 && numbers[1] == numbers[0] + 1, "{numbers:?}");
        // Connected nodes see the jump, and read what may lie before it.
        let heard = node.ear.publications(room.name, numbers[1]).await;
        assert_eq!((heard[0].0, heard[0].1), (41, numbers[0]));
    }
}

async fn another_life_of_the_server_makes_a_room_jump_once(stage: Stage) {
    let node = stage.node().await;
    let room = node.room().await;
    assert_eq!(node.say(&room, 1..=2).await, [1, 2]);
    let partition = node.broker.partition_of(room.name);
    let before = node.broker.life(partition).await.unwrap();
    let _: Vec<String> = node.redis().everywhere("DEBUG", &["CHANGE-REPL-ID"]).await;
    assert_ne!(node.broker.life(partition).await.unwrap(), before);
    let numbers = node.say(&room, 3..=5).await;
    assert!(numbers[0] >= 10_002 && numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2], "{numbers:?}");
    assert_eq!(node.ear.publications(room.name, numbers[0]).await[2].0, 2);
}

async fn a_server_that_was_emptied_gives_no_number_again(stage: Stage) {
    let node = stage.node().await;
    let room = node.room().await;
    assert_eq!(node.say(&room, 1..=3).await, [1, 2, 3]);
    let life = node.broker.life(node.broker.partition_of(room.name)).await.unwrap();
    let _: Vec<String> = node.redis().everywhere("FLUSHALL", &[]).await;
    node.redis().verify().await.unwrap();
    // SQL had none of the three messages.
    let ticket = node.broker.begin_seed(room.name).await.unwrap().unwrap();
    let seed = seed_of(&node, &room, 0, life.as_deref()).await;
    assert!(node.broker.finish_seed(room.name, ticket, seed).await.unwrap());
    assert!(node.say(&room, [4]).await[0] > 10_000);
}

async fn a_seeded_room_knows_its_old_ids(stage: Stage) {
    let node = stage.node().await;
    let room = node.unseeded_room().await;
    let ticket = node.broker.begin_seed(room.name).await.unwrap().unwrap();
    let ids = vec![(Side::Guest, "id-1".parse().unwrap(), 1), (Side::Host, "id-2".parse().unwrap(), 2)];
    let seed = Seed { ids, ..seed_of(&node, &room, 2, None).await };
    assert!(node.broker.finish_seed(room.name, ticket, seed).await.unwrap());
    // The frame is not in Redis: SQL has it.
    let outcomes = node.accept(&[guest(&room, "id-1"), guest(&room, "id-2")]).await;
    assert_eq!(outcomes, [Outcome::Known { seq: 1, frame: None }, Outcome::Accepted(3)]);
}

async fn a_closed_room_is_seeded_closed(stage: Stage) {
    let node = stage.node().await;
    let room = node.unseeded_room().await;
    stage.store.rooms().change(room.name, RoomChange::Close, room.created_at).await.unwrap();
    node.seed(room.name).await;
    assert_eq!(node.accept(&[guest(&room, "a")]).await, [Outcome::Closed]);
}

async fn many_who_need_a_room_seed_it_once(stage: Stage) {
    let nodes = [stage.node().await, stage.node().await];
    let room = nodes[0].unseeded_room().await;
    let all = (0..10).map(|at| {
        let (node, name) = (nodes[at % 2].clone(), room.name);
        tokio::spawn(async move {
            node.rooms.enter(name, MemberCounts { guests: 1, ..MemberCounts::default() }, 0).await.unwrap().0
        })
    });
    for status in all.collect::<Vec<_>>() {
        assert_eq!(status.await.unwrap().state, RoomState::Open);
    }
    until("both nodes count", || async {
        nodes[0].broker.status(&[room.name]).await.unwrap()[0].as_ref().unwrap().guests == 2
    })
    .await;
}
