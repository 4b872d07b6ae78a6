//! Tests that each client receives each sequence number exactly once and in order. Clients connect, reconnect and
//! disconnect while other clients send messages. Every broker is tested.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pintalk_kit::redis::Kind;

use crate::client::Manner;
use crate::setup::{Plan, Setup};
use crate::{eventually, span};

/// Maximum time to detect that a node receives no events, and to deliver the missed messages.
const DETECTED: Duration = Duration::from_secs(15);

async fn race(case: &str, redis: Option<Kind>) {
    let nodes = if redis.is_some() { 2 } else { 1 };
    let manner = Manner { every: Some(Duration::from_millis(80)), ..Manner::default() };
    let plan = Plan { redis, nodes, rooms: 3, manner, ..Plan::default() };
    let mut setup = Setup::set(case, plan).await;
    let began = Instant::now();
    let mut came = 0;
    while began.elapsed() < span(12, 60) {
        // Clients with an even number drop their sockets repeatedly. All other clients keep their sockets.
        let drop_after = (came % 2 == 0).then_some(Duration::from_millis(700));
        if came < 45 {
            setup.add_late(came % 3, &format!("late{came}"), false, Manner { every: None, drop_after, ..manner });
            came += 1;
        }
        if let Some(redis) = setup.redis.as_ref().filter(|_| came % 5 == 0) {
            for at in redis.masters_now() {
                redis.ask_one(at, "CLIENT KILL TYPE pubsub").expect("redis answers");
            }
        }
        tokio::time::sleep(Duration::from_millis(50 + setup.rng.below(300))).await;
    }
    setup
        .finish(|setup, figures| {
            figures.note("came late", came);
            figures.note("reconnections", setup.ledger.closes(1006));
            figures.note("1013", setup.ledger.closes(1013));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_race_messages_on_a_single_node() {
    race("joins_race_messages_on_a_single_node", None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_race_messages_over_redis() {
    race("joins_race_messages_over_redis", Some(Kind::Redis7)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_race_messages_over_a_cluster() {
    race("joins_race_messages_over_a_cluster", Some(Kind::Cluster)).await;
}

/// Tests a node that is connected to Redis but receives no events. All senders use the other node.
/// Otherwise, the node would detect the gap from the sequence number of its own acknowledgement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connected_node_that_receives_nothing_is_detected() {
    let plan = Plan { nodes: 2, wired_redis: true, ..Plan::default() };
    let mut setup = Setup::set_empty("connected_node_that_receives_nothing_is_detected", &plan).await;
    let (talkers, listeners) = (setup.nodes[0].address, setup.nodes[1].address);
    *setup.open_nodes.lock() = vec![talkers];
    setup.fill(3, &plan).await;
    setup.open_nodes = Arc::new(Mutex::new(vec![listeners]));
    setup.add_listeners("listener", false);
    let said = setup.ledger.heads(3);
    eventually("all clients receive messages", DETECTED, async || setup.ledger.all_have(&said).then_some(())).await;
    let clients = setup.redis().ask_one(0, "CLIENT LIST TYPE pubsub").expect("redis answers");
    let port = |client: &str| {
        client.split(' ').find_map(|field| field.strip_prefix("addr=")?.rsplit(':').next()?.parse().ok())
    };
    let muted: Vec<u16> = clients.lines().filter_map(port).collect();
    assert_eq!(muted.len(), 2, "{clients}");
    setup.redis_wire().mute(muted);
    let began = Instant::now();
    // No node receives events now. The node of the senders reads their acknowledged messages from the log, but the
    // other node does not notice the gap.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let said = setup.ledger.heads(3);
    assert!(!setup.ledger.all_have(&said), "the fault had no effect");
    eventually("the node is not ready", DETECTED, async || {
        let (status, body) = setup.nodes[1].readiness(&setup.http).await?;
        (status == 503 && body.contains("does not receive published messages")).then_some(())
    })
    .await;
    eventually("the receivers have all messages", DETECTED, async || setup.ledger.all_have(&said).then_some(())).await;
    let healed = began.elapsed();
    assert!(healed <= DETECTED, "no events for {healed:?}");
    assert_eq!(setup.ledger.closes(1013) + setup.ledger.closes(1006), 0, "a client was disconnected");
    setup.readiness_is(200, DETECTED).await;
    setup.finish(|_, figures| figures.note("healed after s", format!("{:.1}", healed.as_secs_f64()))).await;
}
