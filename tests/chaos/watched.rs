//! Runs Prometheus against a cluster without traffic and then in use. Every panel of the dashboard must have data, and
//! alerts must fire only for injected faults.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;

use crate::eventually;
use crate::prometheus::{Prometheus, in_repository, rules};
use crate::setup::{Plan, Setup};
use crate::socket::{Event, SHOP, Socket};

/// Maximum time until the last panel has data. Rates need two scrapes, and some panels need a job that has run.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Metrics that have no samples in this test, because no fault or webhook creates them.
const ABSENT: [&str; 4] = ["pintalk_sql_fault", "pintalk_webhook_", "pintalk_duty_rows_total", "outcome=\"failed\""];

/// Query of a panel.
#[derive(Clone, Debug)]
struct Query {
    panel: String,
    text: String,
}

impl Query {
    /// Removes the last alternative, with which the query returns 0 while there are no samples.
    fn without_zero(&self) -> Self {
        let text = match self.text.rsplit_once(" or on (") {
            Some((samples, zero)) if zero.contains(") 0 * group by (") => samples.to_owned(),
            _ => self.text.clone(),
        };
        Self { panel: self.panel.clone(), text }
    }
}

/// Returns the queries of all panels. Variables are replaced with values that select everything.
fn queries() -> Vec<Query> {
    let dashboard: Value = serde_json::from_str(&in_repository("grafana/dashboard.json")).expect("JSON");
    let mut variables: Vec<&str> = dashboard["templating"]["list"]
        .as_array()
        .expect("variables")
        .iter()
        .filter_map(|variable| variable["name"].as_str())
        .collect();
    variables.extend(["__rate_interval", "__range"]);
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let mut text = target["expr"].as_str().expect("a query").to_owned();
            for name in &variables {
                let value = match *name {
                    "__rate_interval" => "10s",
                    "__range" => "1m",
                    _ => ".*",
                };
                text = text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value);
            }
            let panel = panel["title"].as_str().expect("a title").to_owned();
            assert!(!text.contains('$'), "{panel}: an unknown variable in {text}");
            found.push(Query { panel, text });
        }
    }
    assert!(found.len() > 75, "{found:?}");
    found
}

/// Evaluates queries repeatedly until each has returned a number, and calls `use_it` between the evaluations.
async fn all_have_data(prometheus: &Prometheus, queries: Vec<Query>, use_it: impl AsyncFn()) {
    let (began, mut left) = (Instant::now(), queries);
    while !left.is_empty() {
        assert!(began.elapsed() < TIMEOUT, "these panels show nothing: {left:#?}");
        use_it().await;
        let mut empty = Vec::new();
        for query in left {
            let values = prometheus.values(&query.text).await;
            if !values.iter().any(|value| value.is_finite()) {
                empty.push(query);
            }
        }
        left = empty;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Connects to a room that does not exist. The node then counts a close code.
async fn connect_to_missing_room(node: SocketAddr) {
    let mut guest = Socket::open(node, "/ws/chat/AAAAAAAAAAAAAAAAAAAAAA/", Some(SHOP)).await.expect("an answer");
    let received = guest.receive().await;
    assert!(matches!(received, Event::Closed { code: 4004, .. }), "{received:?}");
}

/// Returns the share of nodes that the dashboard shows as ready.
async fn share_of_nodes_ready(prometheus: &Prometheus) -> Vec<f64> {
    let query = queries().into_iter().find(|query| query.panel == "Share of nodes ready").expect("a panel");
    prometheus.values(&query.text).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_has_data_and_alerts_fire_for_faults() {
    let plan = Plan { nodes: 2, ..Plan::default() };
    let mut setup = Setup::set_empty("every_panel_has_data_and_alerts_fire_for_faults", &plan).await;
    let prometheus = Prometheus::watching(&setup.nodes, &rules()).await;
    // Without traffic, each panel shows a number.
    all_have_data(&prometheus, queries(), async || {}).await;
    for query in queries() {
        let values = prometheus.values(&query.text).await;
        assert!(!values.is_empty() && values.iter().all(|value| value.is_finite()), "{query:?}: {values:?}");
    }
    assert_eq!(share_of_nodes_ready(&prometheus).await, [1.0]);

    setup.fill(plan.rooms, &plan).await;
    let with_samples = queries().into_iter().filter(|query| !ABSENT.iter().any(|absent| query.text.contains(absent)));
    let with_samples: Vec<Query> = with_samples.map(|query| query.without_zero()).collect();
    assert!(with_samples.len() > 70);
    all_have_data(&prometheus, with_samples, async || {
        let (status, rooms) = setup.call(0, Method::GET, "/api/chat/chatrooms/", Value::Null).await;
        assert_eq!(status, 200, "{rooms}");
        connect_to_missing_room(setup.nodes[0].address).await;
    })
    .await;
    // A rule that cannot be evaluated never fires. The test therefore checks that all rules are healthy.
    let rules = prometheus.ask("rules", &[]).await;
    let rules =
        rules["groups"].as_array().expect("groups").iter().flat_map(|group| group["rules"].as_array().expect("rules"));
    let sick: Vec<&Value> = rules.filter(|rule| rule["health"] != "ok").collect();
    assert!(sick.is_empty(), "{sick:#?}");
    // Only firing alerts are checked: a short delay of a busy test machine can make an alert pending.
    let early = prometheus.alerts(&["firing"]).await;
    assert!(early.is_empty(), "nothing is broken: {early:?}");

    let away = setup.nodes[1].address;
    setup.open_nodes.lock().retain(|address| *address != away);
    setup.nodes[1].kill();
    eventually("the node that is gone is noticed", TIMEOUT, async || {
        prometheus.alerts(&["pending", "firing"]).await.contains("PinTalkNodeDown").then_some(())
    })
    .await;
    assert_eq!(share_of_nodes_ready(&prometheus).await, [0.5]);
    setup.finish(|_, _| {}).await;
}
