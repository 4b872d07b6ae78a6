//! Prometheus server that scrapes the nodes of a test case and evaluates the alerting rules.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pintalk_kit::node::Node;
use serde_json::Value;

use crate::eventually;

/// Prometheus server. It is killed on drop.
pub struct Prometheus {
    process: Child,
    address: SocketAddr,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

/// Returns the content of a file in the repository.
pub fn in_repository(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Returns the alerting rules.
pub fn rules() -> String {
    in_repository("grafana/alerts.yaml")
}

/// Returns the alerting rules with short windows and delays, so that a fault of a few seconds makes them fire.
pub fn quick_rules() -> String {
    let mut rules = String::new();
    for line in self::rules().lines() {
        match line.split_once("for: ") {
            Some((indent, _)) if indent.trim().is_empty() => rules += &format!("{indent}for: 1s\n"),
            _ => rules += &format!("{line}\n"),
        }
    }
    for window in ["5m", "10m", "15m", "20m"] {
        rules = rules.replace(&format!("[{window}]"), "[8s]");
    }
    rules
}

impl Prometheus {
    /// Starts a server that scrapes the nodes and evaluates the rules every second.
    pub async fn watching(nodes: &[Node], rules: &str) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let folder = tempfile::tempdir().expect("a folder");
        let targets: Vec<String> = nodes.iter().map(|node| node.address.to_string()).collect();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\nrule_files: [alerts.yaml]\n\
             scrape_configs: [{{job_name: pintalk, static_configs: [{{targets: {targets:?}}}]}}]\n"
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("a configuration");
        std::fs::write(folder.path().join("alerts.yaml"), rules).expect("alerts");
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
    pub async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let url = url::Url::parse_with_params(&format!("http://{}/api/v1/{path}", self.address), query);
        let answer = self.http.get(url.expect("a URL")).send().await.expect("an answer");
        let answer: Value = answer.json().await.expect("JSON");
        assert_eq!(answer["status"], "success", "{query:?}: {}", answer["error"]);
        answer["data"].clone()
    }

    /// Returns the current values of all series of a query.
    pub async fn values(&self, query: &str) -> Vec<f64> {
        let data = self.ask("query", &[("query", query)]).await;
        let series = data["result"].as_array().expect("a result").iter();
        series.map(|one| one["value"][1].as_str().and_then(|value| value.parse().ok()).expect("a number")).collect()
    }

    /// Returns the names of all alerts that are in one of the given states.
    pub async fn alerts(&self, states: &[&str]) -> BTreeSet<String> {
        let data = self.ask("alerts", &[]).await;
        let alerts = data["alerts"].as_array().expect("alerts").iter();
        let alerts = alerts.filter(|alert| alert["state"].as_str().is_some_and(|state| states.contains(&state)));
        alerts.map(|alert| alert["labels"]["alertname"].as_str().expect("a name").to_owned()).collect()
    }

    /// Waits until all of these alerts fire at the same time. Returns the summaries of the alerts that fire then.
    pub async fn fires(&self, names: &[&str], within: Duration) -> Vec<String> {
        let expected: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        eventually(&format!("{names:?} fire"), within, async || {
            expected.is_subset(&self.alerts(&["firing"]).await).then_some(())
        })
        .await;
        let data = self.ask("alerts", &[]).await;
        let alerts = data["alerts"].as_array().expect("alerts").iter();
        alerts.filter_map(|alert| alert["annotations"]["summary"].as_str().map(str::to_owned)).collect()
    }

    /// Waits until none of these alerts fires.
    pub async fn ends(&self, names: &[&str], within: Duration) {
        eventually(&format!("{names:?} end"), within, async || {
            let firing = self.alerts(&["firing"]).await;
            names.iter().all(|name| !firing.contains(*name)).then_some(())
        })
        .await;
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _gone = self.process.kill().and_then(|()| self.process.wait());
    }
}
