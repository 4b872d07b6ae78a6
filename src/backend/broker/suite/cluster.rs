//! Tests with several nodes on one Redis: connections per node, reconnected nodes, logs and late calls.

use crate::backend::redis::Owner;
use crate::backend::redis::testing::{INSTALLED, PT};
use std::time::Duration;

use fred::interfaces::PubsubInterface as _;

use super::*;
use crate::backend::Unavailable;
use crate::backend::broker::queue::ArchiveQueue as _;
use crate::backend::broker::testing::{Node, WAIT_LIMIT, until};
use crate::backend::redis::broker::RedisBroker;
use crate::domain::Rng;
use crate::domain::Room;
use crate::domain::clock::{Clock as _, SystemClock};

on_a_cluster!(
    two_nodes_receive_the_same,
    members_of_two_nodes_are_added,
    a_dead_node_does_not_count_and_is_pruned,
    account_changes_reach_a_reconnected_node,
    a_reconnected_node_is_notified_of_missed_publications,
    a_call_that_arrives_too_late_writes_nothing,
    an_abandoned_call_has_no_effect_after_redis_resumes,
    a_batch_is_hidden_until_enough_replicas_have_it,
    an_abandoned_message_is_visible_once_replicas_have_it,
    the_log_is_read_forwards_and_backwards,
    a_message_that_is_not_archived_stays_in_the_log,
    another_number_of_partitions_is_rejected,
    a_restored_server_never_reuses_numbers,
    another_installations_redis_is_not_used,
    a_partition_that_was_lost_is_opened_again_before_anything_is_accepted,
    changes_in_any_order_leave_the_newest,
);

async fn two_nodes_receive_the_same(fixture: Fixture) {
    let (one, other) = (fixture.node().await, fixture.node().await);
    let room = one.room().await;
    // Sequence numbers continue and message ids are deduplicated, no matter which node submits a message.
    assert_eq!(one.submit_ids(&room, 1..=2).await, [1, 2]);
    assert_eq!(other.submit_ids(&room, 3..=4).await, [3, 4]);
    let known = Outcome::Known { seq: 1, frame: Some(frame_of(&guest(&room, "id-1"), 1)) };
    assert_eq!(other.accept(&[guest(&room, "id-1")]).await, [known]);
    assert_eq!(one.sink.publications(room.name, 4).await, other.sink.publications(room.name, 4).await);
    other.rooms.change(room.name, RoomChange::Close).await.unwrap();
    for node in [one, other] {
        node.sink.until("the room change", |calls| matches!(calls.last(), Some(SinkCall::Changed(_)))).await;
        assert_eq!(node.sink.calls().len(), 5);
    }
}

async fn counts(node: &Node, room: &Room) -> (u32, u32) {
    let status = node.backend.states.status(&[room.name]).await.unwrap().remove(0).unwrap();
    (status.guests, status.hosts)
}

async fn members_of_two_nodes_are_added(fixture: Fixture) {
    let (one, other) = (fixture.node().await, fixture.node().await);
    let room = one.room().await;
    one.backend.states.set_members(room.name, 2, 0).await.unwrap();
    let told = other.backend.states.set_members(room.name, 1, 1).await.unwrap().unwrap();
    assert_eq!((told.guests, told.hosts), (3, 1));
    assert_eq!(counts(&one, &room).await, (3, 1));
    one.backend.states.set_members(room.name, 0, 0).await.unwrap();
    assert_eq!(counts(&other, &room).await, (1, 1));
}

async fn a_dead_node_does_not_count_and_is_pruned(fixture: Fixture) {
    let (living, dying) = (fixture.node().await, fixture.node().await);
    let room = living.room().await;
    living.backend.states.set_members(room.name, 1, 0).await.unwrap();
    dying.backend.states.set_members(room.name, 2, 1).await.unwrap();
    assert_eq!(counts(&living, &room).await, (3, 1));
    dying.redis().sign_off(Duration::ZERO).await.unwrap();
    assert_eq!(counts(&fixture.node().await, &room).await, (1, 0));
    // The list of live nodes may be up to two seconds old, so the change may take two seconds.
    until("connections of dead nodes do not count", || async { counts(&living, &room).await == (1, 0) }).await;
    let key = living.redis().keys_with(&format!("room:{}", room.name)).await.remove(0);
    let field = format!("g:{}", dying.redis().node());
    assert_eq!(living.redis().raw::<i64>("HEXISTS", &[&key, &field]).await, 1, "asking changes nothing");
    living.backend.states.set_members(room.name, 1, 0).await.unwrap();
    assert_eq!(living.redis().raw::<i64>("HEXISTS", &[&key, &field]).await, 0, "joining prunes");
}

async fn account_changes_reach_a_reconnected_node(fixture: Fixture) {
    let (one, other) = (fixture.node().await, fixture.node().await);
    let news = |sid: &str| Control::LoginEnded { sid: sid.into() };
    one.backend.bus.publish_control(news("before")).await.unwrap();
    let third = fixture.node().await;
    // All listeners are disconnected at once, so no node is subscribed when the change is published.
    one.redis().kill_listeners().await;
    one.backend.bus.publish_control(news("meanwhile")).await.unwrap();
    for node in [&one, &other, &third] {
        node.sink.until("the account change", |calls| calls.contains(&SinkCall::Control(news("meanwhile")))).await;
    }
    let of = |node: &Node| {
        let all = node.sink.calls().into_iter().filter(|calls| matches!(calls, SinkCall::Control(_)));
        all.collect::<Vec<_>>()
    };
    assert_eq!(of(&other), [SinkCall::Control(news("before")), SinkCall::Control(news("meanwhile"))]);
    // A node does not receive a change that was published before the node started.
    assert_eq!(of(&third), [SinkCall::Control(news("meanwhile"))]);
}

async fn a_reconnected_node_is_notified_of_missed_publications(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    node.submit_ids(&room, [1]).await;
    node.sink.publications(room.name, 1).await;
    node.redis().kill_listeners().await;
    let missed = node.submit_ids(&room, [2]).await;
    node.sink.until("missed publications", |calls| calls.contains(&SinkCall::Missed)).await;
    // The node then receives publications again, and the missed message is in the log.
    node.submit_ids(&room, [3]).await;
    let calls = node.sink.publications(room.name, 3).await;
    assert_eq!(calls.last().map(|last| (last.0, last.1)), Some((2, 3)));
    assert_eq!(numbers(&node.cluster().recent.log_after(room.name, 1, 10).await.unwrap()), [missed[0], 3]);
}

async fn a_call_that_arrives_too_late_writes_nothing(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    let broker = RedisBroker::new(node.redis().clone(), Rng::from_seed(1), 0);
    let partition = broker.partition_of(room.name);
    for batch in [vec![guest(&room, "a")], vec![guest(&room, "a"), guest(&room, "b")]] {
        // The call appears to take a minute to arrive.
        broker.delay_calls(partition, Duration::from_secs(60)).await;
        let answer = broker.accept(partition, &batch.iter().collect::<Vec<_>>()).await;
        assert_eq!(answer, Err(Unavailable("the call arrived too late and had no effect".into())));
        assert!(numbers(&node.cluster().recent.log_after(room.name, 0, 10).await.unwrap()).is_empty());
    }
    // The rejected call returned the server's clock, so the deadline of the next call is correct.
    assert_eq!(broker.accept(partition, &[&guest(&room, "a")]).await, Ok(vec![Outcome::Accepted(1)]));
}

async fn an_abandoned_call_has_no_effect_after_redis_resumes(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    node.submit_ids(&room, [1]).await;
    let servers = fixture.servers.as_ref().unwrap();
    servers.freeze();
    let submission = guest(&room, "given-up");
    let answer = node.backend.log.accept(node.backend.log.partition_of(room.name), &[&submission]).await;
    servers.thaw();
    assert!(matches!(answer, Err(Unavailable(_))), "{answer:?}");
    until("redis answers again", || async { node.redis().ping_server().await.is_ok() }).await;
    assert_eq!(numbers(&node.cluster().recent.log_after(room.name, 0, 10).await.unwrap()), [1]);
    assert_eq!(node.submit_ids(&room, [2]).await, [2]);
}

async fn a_batch_is_hidden_until_enough_replicas_have_it(mut fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    let careful = RedisBroker::new(node.redis().clone(), Rng::from_seed(1), 1);
    let (partition, submission) = (careful.partition_of(room.name), guest(&room, "a"));
    fixture.servers.as_ref().unwrap().stop_replicas();
    let answer = careful.accept(partition, &[&submission]).await;
    assert!(matches!(answer, Err(Unavailable(_))), "{answer:?}");
    // Readers do not receive the rejected batch, and the batch is not archived.
    assert_eq!(careful.log_after(room.name, 0, 10).await.unwrap(), []);
    assert_eq!(careful.log_before(room.name, None, 10).await.unwrap(), []);
    assert_eq!(careful.set_members(room.name, 1, 0).await.unwrap().unwrap().seq, 0);
    assert!(careful.read(partition, 10).await.is_err());
    careful.notify(room.name, Side::Guest, "{}".into()).await.unwrap();
    let calls = node.sink.until("the notice", |calls| !calls.is_empty()).await;
    assert!(matches!(calls[..], [SinkCall::Notice { .. }]), "{calls:?}");

    // When a replica is connected again, the same batch is published. The abandoned call therefore loses no message.
    let first = fixture.servers.as_mut().unwrap().start_replicas();
    let mut answer = answer;
    let began = std::time::Instant::now();
    while answer.is_err() && began.elapsed() < WAIT_LIMIT {
        answer = careful.accept(partition, &[&submission]).await;
    }
    let frame = frame_of(&submission, 1);
    assert_eq!(answer, Ok(vec![Outcome::Known { seq: 1, frame: Some(frame.clone()) }]));
    assert_eq!(node.sink.publications(room.name, 1).await, [(0, 1, frame)]);
    assert_eq!(numbers(&careful.log_after(room.name, 0, 10).await.unwrap()), [1]);
    assert_eq!(careful.read(partition, 10).await.unwrap().len(), 1);
    let outcomes = careful.accept(partition, &[&guest(&room, "b")]).await.unwrap();
    let [Outcome::Accepted(next)] = &outcomes[..] else { panic!("{outcomes:?}") };
    // When the first replica connects, the server gets a new replication id. A new epoch then begins, in which the next
    // sequence number skips ahead.
    assert!(if first { *next > 10_000 } else { *next == 2 }, "{next}");
    assert_eq!(node.sink.publications(room.name, *next).await.len(), 2);
}

async fn the_log_is_read_forwards_and_backwards(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    node.submit_ids(&room, 1..=10).await;
    let (node, name) = (&node, room.name);
    let after =
        |after, limit| async move { numbers(&node.cluster().recent.log_after(name, after, limit).await.unwrap()) };
    assert_eq!(after(0, 100).await, (1..=10).collect::<Vec<_>>());
    assert_eq!(after(3, 2).await, [4, 5]);
    assert!(after(10, 100).await.is_empty());
    assert!(after(u64::MAX, 100).await.is_empty());
    let before =
        |before, limit| async move { numbers(&node.cluster().recent.log_before(name, before, limit).await.unwrap()) };
    assert_eq!(before(None, 3).await, [10, 9, 8]);
    assert_eq!(before(Some(4), 100).await, [3, 2, 1]);
    assert_eq!(before(Some(4), 2).await, [3, 2]);
    for none in [Some(0), Some(1)] {
        assert!(before(none, 100).await.is_empty());
    }
    assert_eq!(before(Some(u64::MAX), 1).await, [10]);
    let entry = node.cluster().recent.log_after(room.name, 6, 1).await.unwrap().remove(0);
    assert_eq!(entry.frame, frame_of(&guest(&room, "id-7"), 7));
    let age = (SystemClock.now() - entry.accepted_at).abs();
    assert!(age < chrono::TimeDelta::minutes(1), "{age}");
}

async fn a_message_that_is_not_archived_stays_in_the_log(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    node.submit_ids(&room, 1..=1_300).await;
    let log = || async { node.cluster().recent.log_after(room.name, 0, 5_000).await.unwrap() };
    assert_eq!(numbers(&log().await), (1..=1_300).collect::<Vec<_>>());
    queue::archive_through(&node, &room, 200).await;
    // The messages that are not archived exceed the byte limit of the log, so every archived message was removed.
    assert_eq!(numbers(&log().await), (201..=1_300).collect::<Vec<_>>());
    queue::archive_through(&node, &room, 1_300).await;
    let kept = log().await;
    let bytes: usize = kept.iter().map(|entry| entry.frame.len()).sum();
    assert!((47 * 1024..=64 * 1024).contains(&bytes), "{bytes}");
    let first = kept[0].seq;
    assert_eq!(numbers(&kept), (first..=1_300).collect::<Vec<_>>());
    // The byte count stays exact after entries were removed and added.
    node.submit_ids(&room, 1_301..=1_500).await;
    queue::archive_through(&node, &room, 1_500).await;
    let bytes: usize = log().await.iter().map(|entry| entry.frame.len()).sum();
    assert!((47 * 1024..=64 * 1024).contains(&bytes), "{bytes}");
    let known = node.redis().keys_with(&format!("room:{}", room.name)).await.remove(0);
    assert_eq!(node.redis().raw::<usize>("HGET", &[&known, "bytes"]).await, bytes);
}

async fn another_number_of_partitions_is_rejected(fixture: Fixture) {
    let node = fixture.node().await;
    let own = node.backend.log.partitions();
    let _: String = node.redis().raw("SET", &[&format!("{PT}partitions"), &(own + 1).to_string()]).await;
    let another = fixture.servers.as_ref().unwrap().uninstalled_node().await;
    another.install(INSTALLED.parse().unwrap());
    assert_eq!(another.verify().await, Ok(Owner::Partitions(own + 1)));
    assert!(another.keys().is_err(), "it is not used");
}

async fn a_restored_server_never_reuses_numbers(fixture: Fixture) {
    let (node, other) = (fixture.node().await, fixture.node().await);
    let room = node.room().await;
    let partition = node.backend.log.partition_of(room.name);
    node.submit_ids(&room, 1..=2).await;
    let keys = node.redis().keys_with("").await;
    let mut snapshot = Vec::new();
    for key in keys {
        snapshot.push((node.redis().raw::<bytes::Bytes>("DUMP", &[&key]).await, key));
    }
    assert_eq!(node.submit_ids(&room, 3..=5).await, [3, 4, 5]);
    other.sink.publications(room.name, 5).await;
    // Every key gets its earlier value again. The replication id does not change.
    for (value, key) in &snapshot {
        node.redis().restore(key, value.clone()).await;
    }
    // A node that only received the messages also detects that the server was restored.
    let next = other.submit_ids(&room, [6]).await[0];
    assert!(next > 10_000, "{next}");
    assert_eq!(node.submit_ids(&room, [7]).await, [next + 1]);
    let life = format!("{PT}{{{}}}:life", partition.0);
    assert_eq!(node.redis().raw::<Option<String>>("HGET", &[&life, "suspect"]).await.as_deref(), Some("redis"));
}

async fn another_installations_redis_is_not_used(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    let stranger = fixture.servers.as_ref().unwrap().uninstalled_node().await;
    stranger.install("test-installation-0002".parse().unwrap());
    assert_eq!(stranger.verify().await, Ok(Owner::Other(INSTALLED.to_owned())));
    let broker = RedisBroker::new(stranger.clone(), Rng::from_seed(1), 0);
    let partition = broker.partition_of(room.name);
    assert!(broker.accept(partition, &[&guest(&room, "a")]).await.is_err());
    assert!(broker.set_members(room.name, 1, 0).await.is_err() && stranger.heartbeat().await.is_err());
    assert!(node.redis().keys_with("test-installation-0002").await.is_empty());
    // The owner of the Redis changes while nodes are running.
    assert_eq!(stranger.live_leases_of(INSTALLED.parse().unwrap()).await, Ok(1));
    stranger.adopt().await.unwrap();
    assert_eq!(node.redis().verify().await, Ok(Owner::Other("test-installation-0002".to_owned())));
    assert!(node.backend.log.accept(partition, &[&guest(&room, "a")]).await.is_err());
    assert_eq!(stranger.verify().await, Ok(Owner::Ours));
    // The first installation becomes the owner again.
    node.redis().adopt().await.unwrap();
    assert_eq!(node.redis().verify().await, Ok(Owner::Ours));
    assert_eq!(node.submit_ids(&room, [1]).await, [1]);
}

async fn a_partition_that_was_lost_is_opened_again_before_anything_is_accepted(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    node.submit_ids(&room, [1]).await;
    let partition = node.backend.log.partition_of(room.name);
    let _: Vec<String> = node.redis().everywhere("FLUSHALL", &[]).await;
    // The owner is another installation when the node submits a message.
    let _: String = node.redis().raw("SET", &["pt:installation", "test-installation-0002"]).await;
    for _ in 0..2 {
        assert!(node.backend.log.accept(partition, &[&guest(&room, "a")]).await.is_err());
    }
    assert_eq!(node.redis().keys_with("").await, ["pt:installation"]);
    let _: i64 = node.redis().raw("DEL", &["pt:installation"]).await;
    assert_eq!(node.redis().verify().await, Ok(Owner::Ours));
    node.seed(room.name).await;
    assert!(node.submit_ids(&room, [2]).await[0] > 10_000);
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_redis_is_unavailable() {
    // No server listens on this port. The test pauses the clock, so timeouts pass at once.
    let node = crate::domain::NodeId::from_random([1; 16]);
    let redis = crate::backend::redis::Redis::new("redis://127.0.0.1:1", node).unwrap();
    redis.install(INSTALLED.parse().unwrap());
    let began = tokio::time::Instant::now();
    let answer = redis.ping_server().await;
    assert!(matches!(answer, Err(Unavailable(_))), "{answer:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// Any node may apply any change, in any order and repeatedly. The change with the highest version always wins.
async fn changes_in_any_order_leave_the_newest(fixture: Fixture) {
    let nodes = [fixture.node().await, fixture.node().await];
    for seed in 0..20 {
        let (rng, room) = (Rng::from_seed(seed), nodes[0].room().await);
        let mut changes: Vec<(u64, RoomChange)> = (1..=6)
            .map(|version| (version, if version % 2 == 1 { RoomChange::Close } else { RoomChange::Resume }))
            .collect();
        if seed % 3 == 0 {
            changes.push((7, RoomChange::Delete));
        }
        changes.extend(changes.clone());
        let (mut newest, mut accepted) = ((0, RoomChange::Resume), 0);
        while !changes.is_empty() {
            let (version, change) = changes.swap_remove(rng.below(changes.len() as u64) as usize);
            let node = &nodes[rng.below(2) as usize];
            node.backend.states.apply(Change { room: room.name, change, version, notice: "{}".into() }).await.unwrap();
            newest = if version > newest.0 { (version, change) } else { newest };
            let outcome = node.accept(&[guest(&room, &format!("id-{}", changes.len()))]).await.remove(0);
            let expected = match newest.1.state() {
                RoomState::Open => {
                    accepted += 1;
                    Outcome::Accepted(accepted)
                }
                RoomState::Closed => Outcome::Closed,
                RoomState::Deleted => Outcome::Deleted,
            };
            assert_eq!(outcome, expected, "seed {seed}, after version {version}");
        }
    }
}

/// This test does not run on a Redis Cluster. The driver subscribes to the buses of a Redis Cluster periodically, so no
/// bus stays silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connected_node_that_receives_nothing_is_detected_and_resubscribed() {
    Fixture::cluster(crate::store::Dialect::Sqlite, |fixture| async move {
        let node = fixture.node().await;
        let room = node.room().await;
        let partition = node.backend.log.partition_of(room.name).0;
        let began = std::time::Instant::now();
        node.redis().subscriber().sunsubscribe(format!("{PT}{{{partition}}}:bus")).await.unwrap();
        node.submit_ids(&room, [1]).await;
        until("the silent bus is detected", || async { !node.cluster().bus_health.is_receiving() }).await;
        node.sink.until("the sink is notified of missed publications", |calls| calls.contains(&SinkCall::Missed)).await;
        until("the node receives again", || async { node.cluster().bus_health.is_receiving() }).await;
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        node.submit_ids(&room, [2]).await;
        assert_eq!(node.sink.publications(room.name, 2).await.len(), 1, "the first message was never received");
    })
    .await;
}

/// A probe that Redis rejects counts as missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_permission_to_publish_is_detected_and_recovers() {
    Fixture::cluster(crate::store::Dialect::Sqlite, |fixture| async move {
        let node = fixture.node().await;
        let room = node.room().await;
        let _: Vec<String> = node.redis().everywhere("ACL", &["SETUSER", "default", "resetchannels"]).await;
        until("the silent bus is detected", || async { !node.cluster().bus_health.is_receiving() }).await;
        let _: Vec<String> = node.redis().everywhere("ACL", &["SETUSER", "default", "allchannels"]).await;
        until("it receives", || async { node.cluster().bus_health.is_receiving() }).await;
        node.submit_ids(&room, [1]).await;
        node.sink.publications(room.name, 1).await;
    })
    .await;
}

/// A message that Redis refused to store is stored when the client repeats it. It does not count as known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_redis_denied_is_stored_when_it_is_repeated() {
    Fixture::cluster(crate::store::Dialect::Sqlite, |fixture| async move {
        let node = fixture.node().await;
        let room = node.room().await;
        let (message, partition) = (guest(&room, "id-1"), node.backend.log.partition_of(room.name));
        let _: Vec<String> = node.redis().everywhere("ACL", &["SETUSER", "default", "-xadd"]).await;
        assert!(node.backend.log.accept(partition, &[&message]).await.is_err());
        let _: Vec<String> = node.redis().everywhere("ACL", &["SETUSER", "default", "+xadd"]).await;
        assert_eq!(node.accept(&[message]).await, [Outcome::Accepted(1)]);
        assert_eq!(node.sink.publications(room.name, 1).await.len(), 1);
    })
    .await;
}

/// The archiver makes messages of an abandoned call visible after replicas have them.
async fn an_abandoned_message_is_visible_once_replicas_have_it(mut fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    let careful = RedisBroker::new(node.redis().clone(), Rng::from_seed(1), 1);
    let partition = careful.partition_of(room.name);
    fixture.servers.as_ref().unwrap().stop_replicas();
    assert!(careful.accept(partition, &[&guest(&room, "a")]).await.is_err());
    fixture.servers.as_mut().unwrap().start_replicas();
    let (queue, began) = (&careful, std::time::Instant::now());
    let mut read = queue.read(partition, 10).await;
    while read.is_err() && began.elapsed() < WAIT_LIMIT {
        read = queue.read(partition, 10).await;
    }
    assert_eq!(read.unwrap().len(), 1);
    assert_eq!(numbers(&careful.log_after(room.name, 0, 10).await.unwrap()), [1]);
}
