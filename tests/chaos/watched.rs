//! Runs Prometheus against a cluster in use. Every panel of the dashboard must have data, and alerts must fire only for
//! injected faults.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pintalk_kit::node::Node;
use reqwest::Method;
use serde_json::Value;

use crate::eventually;
use crate::setup::{Plan, Setup};
use crate::socket::{Event, SHOP, Socket};

/// Maximum time until the last panel has data. Rates need two scrapes, and some panels need a job that has run.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Prometheus server that evaluates the alerts. It is killed on drop.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

fn in_repository(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

impl Prometheus {
    async fn watching(nodes: &[Node]) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let folder = tempfile::tempdir().expect("a folder");
        let targets: Vec<String> = nodes.iter().map(|node| node.address.to_string()).collect();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\nrule_files: [alerts.yaml]\n\
             scrape_configs: [{{job_name: pintalk, static_configs: [{{targets: {targets:?}}}]}}]\n"
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("a configuration");
        std::fs::write(folder.path().join("alerts.yaml"), in_repository("grafana/alerts.yaml")).expect("alerts");
        let mut prometheus = Command::new("prometheus");
        prometheus.arg(format!("--config.file={}", file.display()));
        prometheus.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        prometheus.arg(format!("--web.listen-address={address}")).arg("--log.level=error").stdin(Stdio::null());
        let process = prometheus.spawn().expect("prometheus is installed: see tests/run");
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().expect("a client");
        let prometheus = Self { process, address, http, _folder: folder };
        eventually("prometheus is ready", Duration::from_secs(20), async || {
            let asked = prometheus.http.get(format!("http://{address}/-/ready")).send().await;
            asked.is_ok_and(|answer| answer.status() == 200).then_some(())
        })
        .await;
        prometheus
    }

    /// Sends a request to the API of Prometheus and returns the `data` of the response.
    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let url = url::Url::parse_with_params(&format!("http://{}/api/v1/{path}", self.address), query);
        let answer = self.http.get(url.expect("a URL")).send().await.expect("an answer");
        let answer: Value = answer.json().await.expect("JSON");
        assert_eq!(answer["status"], "success", "{query:?}: {}", answer["error"]);
        answer["data"].clone()
    }

    /// Returns whether a query has a numeric result.
    async fn shows(&self, query: &str) -> bool {
        let data = self.ask("query", &[("query", query)]).await;
        let series = data["result"].as_array().expect("a result");
        series.iter().any(|one| one["value"][1] != "NaN")
    }

    /// Returns the names of all alerts that are in one of the given states.
    async fn alerts(&self, states: &[&str]) -> Vec<String> {
        let data = self.ask("alerts", &[]).await;
        let alerts = data["alerts"].as_array().expect("alerts").iter();
        let alerts = alerts.filter(|alert| alert["state"].as_str().is_some_and(|state| states.contains(&state)));
        alerts.map(|alert| alert["labels"]["alertname"].as_str().expect("a name").to_owned()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _gone = self.process.kill().and_then(|()| self.process.wait());
    }
}

/// Returns the query of each target of all panels, with the title of the panel. Variables are replaced with values that
/// select everything.
fn queries() -> Vec<(String, String)> {
    fn gather(panels: &Value, found: &mut Vec<(String, String)>) {
        for panel in panels.as_array().into_iter().flatten() {
            let title = panel["title"].as_str().expect("a title");
            let targets = panel["targets"].as_array().into_iter().flatten();
            found
                .extend(targets.map(|target| (title.to_owned(), target["expr"].as_str().expect("a query").to_owned())));
            gather(&panel["panels"], found);
        }
    }
    let dashboard: Value = serde_json::from_str(&in_repository("grafana/dashboard.json")).expect("JSON");
    let mut variables = vec!["datasource", "__rate_interval", "__range"];
    variables.extend(
        dashboard["templating"]["list"].as_array().expect("variables").iter().filter_map(|v| v["name"].as_str()),
    );
    let mut found = Vec::new();
    gather(&dashboard["panels"], &mut found);
    for (title, query) in &mut found {
        for name in &variables {
            let value = match *name {
                "__rate_interval" => "10s",
                "__range" => "1m",
                _ => ".*",
            };
            *query = query.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value);
        }
        assert!(!query.contains('$'), "{title}: an unknown variable in {query}");
    }
    assert!(found.len() > 40, "{found:?}");
    found
}

/// Connects to a room that does not exist. The node then counts a close code.
async fn connect_to_missing_room(node: SocketAddr) {
    let mut guest = Socket::open(node, "/ws/chat/AAAAAAAAAAAAAAAAAAAAAA/", Some(SHOP)).await.expect("an answer");
    let received = guest.receive().await;
    assert!(matches!(received, Event::Closed { code: 4004, .. }), "{received:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_has_data_and_alerts_fire_for_faults() {
    let plan = Plan { nodes: 2, ..Plan::default() };
    let mut setup = Setup::set("every_panel_has_data_and_alerts_fire_for_faults", plan).await;
    let prometheus = Prometheus::watching(&setup.nodes).await;
    let mut left = queries();
    let began = Instant::now();
    while !left.is_empty() {
        assert!(began.elapsed() < TIMEOUT, "these panels show nothing: {left:#?}");
        let (status, rooms) = setup.call(0, Method::GET, "/api/chat/chatrooms/", Value::Null).await;
        assert_eq!(status, 200, "{rooms}");
        connect_to_missing_room(setup.nodes[0].address).await;
        let mut empty = Vec::new();
        for (title, query) in left {
            if !prometheus.shows(&query).await {
                empty.push((title, query));
            }
        }
        left = empty;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
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
        prometheus.alerts(&["pending", "firing"]).await.contains(&"PinTalkNodeDown".to_owned()).then_some(())
    })
    .await;
    setup.finish(|_, _| {}).await;
}
