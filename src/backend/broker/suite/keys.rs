//! Tests of key names. Every key is in the slot of its partition, unless it belongs to no partition.

use std::collections::BTreeSet;
use std::time::Duration;

use super::queue::idle;
use super::*;
use crate::backend::broker::queue::ArchivedMark;
use crate::backend::broker::recovery::Recovery as _;
use crate::backend::lease::Lease as _;
use crate::backend::presence::Presence as _;
use crate::backend::redis::broker::RedisBroker;
use crate::backend::redis::lease::RedisLease;
use crate::backend::redis::presence::RedisPresence;
use crate::backend::redis::testing::{PT, on_redis};
use crate::domain::HostUuid;
use crate::domain::Rng;

on_redis!(redis_cluster, Cluster, crate::backend::broker::testing::Fixture::on: every_key_is_in_the_slot_of_its_partition);

/// Kinds of keys that exist once per room. Their names end with the name of the room.
const OF_A_ROOM: [&str; 4] = ["room", "log", "ids", "seed"];

/// Kinds of keys that exist once per partition.
const OF_A_PARTITION: [&str; 7] = ["queue", "idle", "archiver", "dead", "life", "mark", "trial"];

/// Number of partitions of a Redis Cluster.
const PARTITIONS: u16 = 16;

/// Returns the kind of a key. Returns `None` if the kind is unknown or the key is in the wrong slot.
fn kind_of(key: &str) -> Option<&str> {
    let Some(rest) = key.strip_prefix(PT) else {
        return ["pt:installation", "pt:partitions"].into_iter().find(|known| *known == key);
    };
    let Some((tag, rest)) = rest.strip_prefix('{').and_then(|rest| rest.split_once("}:")) else {
        return match rest.split(':').collect::<Vec<_>>()[..] {
            [kind @ ("nodes" | "control" | "partitions" | "generation")] => Some(kind),
            ["node", _, kind @ "hosts"] => Some(kind),
            ["lease", kind @ "leader"] => Some(kind),
            _ => None,
        };
    };
    if rest == "presence" {
        return HostUuid::from_bytes(tag.as_bytes()).is_ok().then_some(rest);
    }
    let partition = tag.parse().ok().filter(|partition| *partition < PARTITIONS).map(Partition)?;
    match rest.split_once(':') {
        None => OF_A_PARTITION.into_iter().find(|kind| *kind == rest),
        Some((kind @ "fresh", host)) => host.parse::<i64>().is_ok().then_some(kind),
        Some((kind, room)) => {
            let room = RoomName::from_bytes(room.as_bytes()).ok()?;
            let here = Partition::of(room, PARTITIONS) == partition;
            OF_A_ROOM.into_iter().find(|of_a_room| *of_a_room == kind && here)
        }
    }
}

async fn every_key_is_in_the_slot_of_its_partition(fixture: Fixture) {
    let node = fixture.node().await;
    // The test creates rooms until every partition has a room.
    let mut partitions = BTreeSet::new();
    while partitions.len() < usize::from(PARTITIONS) {
        let room = node.room().await;
        node.submit_ids(&room, 1..=2).await;
        node.backend.states.set_members(room.name, 1, 1).await.unwrap();
        node.backend.bus.notify(room.name, Side::Host, "{}".into()).await.unwrap();
        node.cluster().recent.log_after(room.name, 0, 10).await.unwrap();
        node.cluster().recent.log_before(room.name, None, 10).await.unwrap();
        partitions.insert(node.backend.log.partition_of(room.name));
        let (queue, partition) = (node.cluster().archive.clone(), node.backend.log.partition_of(room.name));
        let lease = queue.lease(partition).await.unwrap().unwrap();
        let entries = queue.read(partition, 10).await.unwrap();
        let marks =
            [ArchivedMark { room: room.name, archived: 1, state: RoomState::Open, version: 0, stored: Some(0) }];
        assert!(queue.dead_letter(partition, &lease, &entries[1].position, "why", false).await.unwrap());
        assert!(queue.finish(partition, &lease, &entries[0].position, 0, &marks).await.unwrap());
        queue.remove_idle(partition, idle(Duration::from_secs(3_600))).await.unwrap();
        node.rooms.change(room.name, RoomChange::Close).await.unwrap();
        node.rooms.change(room.name, RoomChange::Resume).await.unwrap();
    }
    let gone = node.room().await;
    node.rooms.change(gone.name, RoomChange::Delete).await.unwrap();
    let waiting = node.unseeded_room().await;
    node.cluster().seeding.begin_seed(waiting.name).await.unwrap().unwrap();
    node.backend.bus.publish_control(Control::LoginEnded { sid: "sid".into() }).await.unwrap();
    let broker = RedisBroker::new(node.redis().clone(), Rng::from_seed(1), 0);
    broker.raise_generation(1).await.unwrap();
    node.redis().try_writing().await.unwrap();
    let careful = RedisBroker::new(node.redis().clone(), Rng::from_seed(1), 1);
    let room = node.room().await;
    careful.accept(careful.partition_of(room.name), &[&guest(&room, "a")]).await.unwrap();
    // This call creates the `mark` key of the partition. The archiver makes the same call while messages are hidden.
    for partition in (0..PARTITIONS).map(Partition) {
        assert!(careful.is_replicated(partition).await.unwrap());
    }
    let presence = RedisPresence::new(node.redis().clone());
    for _ in 0..5 {
        let host = HostUuid::from_random(Rng::from_entropy().bytes());
        presence.enter(host).await.unwrap();
        presence.greet(host, "{}".into()).await.unwrap();
    }

    assert!(RedisLease::new(node.redis().clone()).hold().await.unwrap());

    let keys = node.redis().keys_with("").await;
    let strange: Vec<_> = keys.iter().filter(|key| kind_of(key).is_none()).collect();
    assert!(strange.is_empty(), "{strange:?}");
    let kinds: BTreeSet<_> = keys.iter().filter_map(|key| kind_of(key)).collect();
    let without = [
        "nodes",
        "control",
        "partitions",
        "generation",
        "hosts",
        "leader",
        "presence",
        "fresh",
        "pt:installation",
        "pt:partitions",
    ];
    assert_eq!(kinds, OF_A_ROOM.into_iter().chain(OF_A_PARTITION).chain(without).collect());
}
