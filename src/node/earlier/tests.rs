//! Tests of the migration of Redis keys that releases without installation ids have written.

use std::collections::BTreeSet;

use super::*;
use crate::backend::broker::Outcome;
use crate::backend::broker::testing::{Fixture, Node, frame_of, guest};
use crate::backend::redis::testing::on_redis;
use crate::domain::{Room, RoomChange, Seq};

on_redis!(redis7, Redis7, crate::backend::broker::testing::Fixture::on: keys_of_the_earlier_release_are_archived_and_removed, nothing_changes_while_nodes_of_the_earlier_release_run);
on_redis!(redis_cluster, Cluster, crate::backend::broker::testing::Fixture::on: keys_of_the_earlier_release_are_archived_and_removed, nothing_changes_while_nodes_of_the_earlier_release_run);

/// Writes the keys of a room with unarchived messages in the format of `accept.lua` of the earlier release.
async fn leave(node: &Node, room: &Room, seqs: std::ops::RangeInclusive<Seq>) {
    let (partition, name, id) = (Partition::of(room.name, PARTITIONS).0, room.name.to_string(), room.id.0.to_string());
    let key = |kind: &str| format!("pt:{{{partition}}}:{kind}");
    let last = seqs.end().to_string();
    let _: i64 = node
        .redis()
        .raw("HSET", &[&key(&format!("room:{name}")), "state", "open", "id", &id, "seq", &last, "archived", "0"])
        .await;
    let _: i64 = node.redis().raw("ZADD", &[&key("idle"), "1", &name]).await;
    let _: String = node.redis().raw("SET", &[&key("life"), "5f"]).await;
    for seq in seqs {
        let message = guest(room, &format!("id-{seq}"));
        let frame = String::from_utf8(frame_of(&message, seq).to_vec()).unwrap();
        let entry = ["*", "n", &name, "i", &id, "l", "aa.5f", "a", "1795000000000", "f", &frame, "o", ""];
        let queue = key("queue");
        let queued: Vec<&str> = [queue.as_str()].into_iter().chain(entry).collect();
        let _: String = node.redis().raw("XADD", &queued).await;
        let log = key(&format!("log:{name}"));
        let _: String = node.redis().raw("XADD", &[&log, &format!("{seq}-0"), "f", &frame, "a", "1795000000000"]).await;
        let ids = key(&format!("ids:{name}"));
        let _: i64 = node.redis().raw("ZADD", &[&ids, &seq.to_string(), &format!("g:id-{seq}")]).await;
    }
}

async fn stored(fixture: &Fixture, room: &Room) -> Vec<Seq> {
    let messages = fixture.store.messages().between(room.id, 0, None, 10_000).await.unwrap();
    messages.iter().map(|message| message.seq).collect()
}

async fn keys_of_the_earlier_release_are_archived_and_removed(fixture: Fixture) {
    let node = fixture.node().await;
    let (room, other, deleted) = (node.unseeded_room().await, node.unseeded_room().await, node.unseeded_room().await);
    leave(&node, &room, 1..=1_200).await;
    leave(&node, &other, 1..=3).await;
    leave(&node, &deleted, 1..=2).await;
    fixture.store.rooms().change(deleted.name, RoomChange::Delete, deleted.created_at).await.unwrap();
    // The node of the earlier release had archived a part of its queue when it stopped.
    node.redis().raw::<String>("SET", &["pt:{cart}:of-another-application", "1"]).await;
    node.redis().raw::<i64>("ZADD", &["pt:nodes", "1", "gone.1"]).await;
    node.redis().raw::<i64>("SADD", &["pt:node:gone.1:hosts", fixture.host.uuid.as_str()]).await;
    let presence = format!("pt:{{{}}}:presence", fixture.host.uuid);
    node.redis().raw::<i64>("HSET", &[&presence, "n:gone.1", "1"]).await;
    // This room belongs to another installation, so its row is in another database.
    let stranger = Room { name: RoomName::from_random([9; 16]), ..room.clone() };
    leave(&node, &stranger, 1..=2).await;

    for _ in 0..2 {
        take_over(node.redis(), &fixture.store).await.unwrap();
        assert_eq!(stored(&fixture, &room).await, (1..=1_200).collect::<Vec<_>>());
        assert_eq!(stored(&fixture, &other).await, [1, 2, 3]);
        assert_eq!(stored(&fixture, &deleted).await, [0; 0]);
    }
    let left: BTreeSet<String> =
        node.redis().keys_with("pt:").await.into_iter().filter(|key| key.contains(stranger.name.as_str())).collect();
    assert_eq!(left.len(), 3, "another installation's room keeps its keys: {left:?}");
    assert!(node.redis().keys_with(&format!("log:{}", room.name)).await.is_empty());
    assert_eq!(node.redis().raw::<String>("GET", &["pt:{cart}:of-another-application"]).await, "1");
    let queue = format!("pt:{{{}}}:queue", Partition::of(stranger.name, PARTITIONS).0);
    assert_eq!(node.redis().raw::<u64>("XLEN", &[&queue]).await, 2);

    // The sequence numbers continue, and message ids that the earlier release accepted are still deduplicated.
    node.seed(room.name).await;
    let outcomes = node.accept(&[guest(&room, "id-1200"), guest(&room, "id-1201")]).await;
    assert_eq!(outcomes[0], Outcome::Known { seq: 1_200, frame: None });
    assert!(matches!(outcomes[1], Outcome::Accepted(seq) if seq > 10_000), "{outcomes:?}");

    // The test removes the keys of the other installation. The remaining keys only prevent a suspended node of the
    // earlier release from accepting messages.
    for kind in ["room:", "log:", "ids:"] {
        let key = format!("pt:{{{}}}:{kind}{}", Partition::of(stranger.name, PARTITIONS).0, stranger.name);
        let _: i64 = node.redis().raw("DEL", &[&key]).await;
    }
    let idle = format!("pt:{{{}}}:idle", Partition::of(stranger.name, PARTITIONS).0);
    let _: i64 = node.redis().raw("ZREM", &[&idle, stranger.name.as_str()]).await;
    let _: i64 = node.redis().raw("DEL", &[&queue]).await;
    take_over(node.redis(), &fixture.store).await.unwrap();
    let rest: Vec<String> = node
        .redis()
        .keys_with("")
        .await
        .into_iter()
        .filter(|key| !key.starts_with(crate::backend::redis::testing::PT))
        .collect();
    let expected = |key: &String| {
        ["pt:installation", "pt:partitions", "pt:{cart}:of-another-application"].contains(&key.as_str())
            || key.ends_with("}:queue")
    };
    assert!(rest.iter().all(expected), "{rest:?}");
    assert!(node.redis().raw::<Option<String>>("GET", &["pt:partitions"]).await.is_some_and(|count| count != "16"));
}

async fn nothing_changes_while_nodes_of_the_earlier_release_run(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.unseeded_room().await;
    leave(&node, &room, 1..=3).await;
    let time: (i64, i64) = node.redis().raw("TIME", &[]).await;
    let deadline = (time.0 * 1_000 + 10_000).to_string();
    node.redis().raw::<i64>("ZADD", &["pt:nodes", &deadline, "old.1"]).await;
    let Err(Unavailable(why)) = wait_for_nodes(node.redis()).await else { panic!("it is running") };
    assert!(why.to_string().contains("1 nodes of an earlier release"), "{why}");
    assert!(take_over(node.redis(), &fixture.store).await.is_err());
    assert_eq!(stored(&fixture, &room).await, [0; 0]);
    // The deadline of this lease is too far in the future. It was written by a clock that was ahead, so the lease is
    // ignored.
    let far = (time.0 * 1_000 + 3_600_000).to_string();
    node.redis().raw::<i64>("ZADD", &["pt:nodes", &far, "old.1"]).await;
    assert!(wait_for_nodes(node.redis()).await.is_ok());
}
