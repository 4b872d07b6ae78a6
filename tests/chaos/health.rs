//! Tests the health endpoints as load balancers and orchestrators use them.

use std::time::{Duration, Instant};

use pintalk_kit::database::{Database, TestDatabase};
use pintalk_kit::node::Node;
use pintalk_kit::proxy::Wire;

use crate::eventually;
use crate::setup::{Plan, Setup};
use crate::socket::SHOP;

/// Maximum time for a node to detect a fault.
const NOTICED: Duration = Duration::from_secs(20);

/// Waits until `/health/ready` of a node returns this status and a body that contains `word`.
async fn readiness_is(setup: &Setup, node: &Node, status: u16, word: &str) {
    eventually(&format!("readiness is {status} and {word}"), NOTICED, async || {
        let (said, body) = node.readiness(&setup.http).await?;
        (said == status && body.contains(word)).then_some(())
    })
    .await;
}

async fn is_live(setup: &Setup, node: &Node) -> bool {
    let asked = setup.http.get(node.url("/health/live")).send().await;
    asked.is_ok_and(|answer| answer.status() == 200)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_waits_for_sql_at_start_and_works_without_it_later() {
    let plan = Plan { nodes: 1, rooms: 1, ..Plan::default() };
    let mut setup = Setup::set("a_node_starts_without_sql", plan).await;
    readiness_is(&setup, &setup.nodes[0], 200, "\"degraded\":false").await;
    setup.sql_wire().set(Wire::Cut);
    let late = setup.nodes[0].start_another(&[]);
    readiness_is(&setup, &late, 503, "starting").await;
    assert!(is_live(&setup, &late).await, "a node that waits for a store must not be restarted");
    let metrics = setup.http.get(late.url("/metrics")).send().await.expect("an answer").text().await.expect("text");
    assert!(metrics.contains("\npintalk_ready 0\n"), "a waiting node must be visible to the alerts: {metrics}");
    // A load balancer without health checks forwards a handshake to the next node if a node answers 503.
    let open = setup.http.get(late.url(&setup.guest_path(0))).header("Origin", SHOP).header("Connection", "Upgrade");
    let open = open.header("Upgrade", "websocket").header("Sec-WebSocket-Version", "13");
    let refused = open.header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==").send().await.expect("an answer");
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    // The other node is still ready, but it reports that it is degraded.
    readiness_is(&setup, &setup.nodes[0], 200, "\"degraded\":true").await;
    assert_eq!(late.readiness(&setup.http).await.map(|(status, _)| status), Some(503), "it has not begun meanwhile");
    setup.sql_wire().set(Wire::Whole);
    readiness_is(&setup, &late, 200, "\"degraded\":false").await;
    readiness_is(&setup, &setup.nodes[0], 200, "\"degraded\":false").await;
    setup.nodes.push(late);
    setup.finish(|_, _| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_node_is_not_ready_and_stays_live_until_it_ends() {
    let flags = ["--drain-delay", "3s", "--drain", "1s"].map(str::to_owned).to_vec();
    let setup = Setup::set("draining_node", Plan { nodes: 2, rooms: 1, flags, ..Plan::default() }).await;
    let going = &setup.nodes[1];
    setup.open_nodes.lock().retain(|address| *address != going.address);
    going.signal("-TERM");
    readiness_is(&setup, going, 503, "going away").await;
    assert!(is_live(&setup, going).await, "it still serves connected clients");
    setup.finish(|_, _| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_with_an_old_schema_is_never_ready_and_states_what_to_do() {
    let setup = Setup::set("a_node_whose_schema_is_old", Plan { nodes: 1, rooms: 0, ..Plan::default() }).await;
    let empty = TestDatabase::create(Database::MySql).await;
    let mut old = setup.nodes[0].start_another(&[("--database-url", &empty.url)]);
    eventually("it reports why it ends", NOTICED, async || {
        let ready = old.readiness(&setup.http).await;
        assert!(ready.is_none_or(|(status, _)| status == 503), "it is ready without a schema");
        old.logged().contains("run `pintalk migrate up`").then_some(())
    })
    .await;
    let began = Instant::now();
    let code = loop {
        if let Some(code) = old.has_ended() {
            break code;
        }
        assert!(began.elapsed() < NOTICED, "it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(code, Some(1));
    empty.drop_it().await;
    setup.finish(|_, _| {}).await;
}
