//! Tests of partitions whose master changes, because of a failover or a moved slot.

use crate::backend::redis::testing::PT;
use fred::util::redis_keyslot;

use super::*;
use crate::backend::broker::testing::{Node, WAIT_LIMIT, until};
use crate::backend::redis::testing::on_redis;
use crate::domain::{Room, Seq};

on_redis!(redis_cluster, Cluster, crate::backend::broker::testing::Fixture::on:
    after_a_failover_numbers_skip_ahead_and_all_nodes_receive_again,
    a_moving_partition_pauses_and_continues,
);
on_redis!(redis_sentinel, Sentinel, crate::backend::broker::testing::Fixture::on:
    after_a_failover_numbers_skip_ahead_and_all_nodes_receive_again,
);

fn slot_of(node: &Node, room: &Room) -> u16 {
    redis_keyslot(format!("{PT}{{{}}}:queue", node.backend.log.partition_of(room.name).0).as_bytes())
}

/// Submits a message repeatedly until it is accepted, as a node does for a client's message.
async fn insist(node: &Node, room: &Room, id: &str) -> Seq {
    let (partition, message) = (node.backend.log.partition_of(room.name), guest(room, id));
    let began = std::time::Instant::now();
    loop {
        match node.backend.log.accept(partition, &[&message]).await.as_deref() {
            Ok([Outcome::Accepted(seq) | Outcome::Known { seq, .. }]) => return *seq,
            other => assert!(began.elapsed() < WAIT_LIMIT, "{other:?}"),
        }
    }
}

async fn after_a_failover_numbers_skip_ahead_and_all_nodes_receive_again(mut fixture: Fixture) {
    let nodes = [fixture.node().await, fixture.node().await];
    let [one, other] = &nodes;
    let room = one.room().await;
    assert_eq!(one.submit_ids(&room, 1..=2).await, [1, 2]);
    let epoch = one.epoch(one.backend.log.partition_of(room.name)).await;
    one.redis().wait_for_replicas(fixture.servers.as_ref().unwrap(), slot_of(one, &room)).await;
    for node in &nodes {
        node.sink.publications(room.name, 2).await;
    }

    fixture.servers.as_mut().unwrap().fail_over(slot_of(one, &room));
    let next = insist(one, &room, "id-3").await;
    assert!(next > 10_000, "{next}");
    assert_ne!(one.epoch(one.backend.log.partition_of(room.name)).await, epoch);
    // The new master has the messages that the replica had. No script is loaded on it yet, and every script still
    // works.
    assert_eq!(insist(other, &room, "id-1").await, 1);
    assert_eq!(numbers(&other.cluster().recent.log_after(room.name, 0, 10).await.unwrap()), [1, 2, next]);
    for node in &nodes {
        node.sink.until("missed publications", |calls| calls.contains(&SinkCall::Missed)).await;
    }
    let last = insist(other, &room, "id-4").await;
    for node in &nodes {
        node.sink.publications(room.name, last).await;
    }
    one.rooms.change(room.name, RoomChange::Close).await.unwrap();
    until("the change is received", || async { !other.sink.changes().is_empty() }).await;
}

async fn a_moving_partition_pauses_and_continues(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    let beside = node.room_beside(&room).await;
    let elsewhere = loop {
        let other = node.room().await;
        if node.backend.log.partition_of(other.name) != node.backend.log.partition_of(room.name) {
            break other;
        }
    };
    for room in [&room, &beside] {
        assert_eq!(node.submit_ids(room, 1..=2).await, [1, 2]);
    }
    let (servers, slot) = (fixture.servers.as_ref().unwrap(), slot_of(&node, &room));
    let partition = node.backend.log.partition_of(room.name);
    let keys = node.redis().keys_with(&format!("{{{}}}:", partition.0)).await;
    let (ahead, behind): (Vec<_>, Vec<_>) =
        keys.into_iter().partition(|key| key.ends_with(":idle") || key.ends_with(beside.name.as_str()));

    // While the slot moves, each of the two servers has some of its keys. A call to this partition changes nothing.
    // Calls to other partitions succeed.
    servers.begin_moving(slot);
    ahead.iter().for_each(|key| servers.move_key(slot, key));
    let batch = [guest(&room, "id-3"), guest(&beside, "id-3")];
    let answer = node.backend.log.accept(partition, &batch.iter().collect::<Vec<_>>()).await;
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(node.submit_ids(&elsewhere, 1..=2).await, [1, 2]);
    assert_eq!(numbers(&node.cluster().recent.log_after(room.name, 0, 10).await.unwrap()), [1, 2]);
    assert_eq!(node.cluster().archive.clone().read(partition, 10).await.unwrap().len(), 4);

    node.sink.clear();
    behind.iter().for_each(|key| servers.move_key(slot, key));
    servers.end_moving(slot);
    // The new master begins a new epoch.
    let next = insist(&node, &room, "id-3").await;
    assert!(next > 10_000, "{next}");
    assert_eq!(insist(&node, &room, "id-4").await, next + 1);
    // The bus of the partition has moved too, so publications may have been missed during the move.
    node.sink.until("missed publications", |calls| calls.contains(&SinkCall::Missed)).await;
    let last = insist(&node, &beside, "id-3").await;
    let calls = node.sink.publications(beside.name, last).await;
    assert_eq!(calls.last().map(|calls| (calls.0, calls.1)), Some((2, last)));
}
