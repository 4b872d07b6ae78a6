//! Tests that Prometheus accepts the alerts and the queries of the dashboard, and that both refer only to existing
//! metrics.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::chart::{CHART, HELMS, rendered, sets};
use crate::tools::{path, printed, text, yaml};

const ALERTS: &str = "grafana/alerts.yaml";
const CASES: &str = "grafana/alerts.test.yaml";
const DASHBOARD: &str = "grafana/dashboard.json";
/// Base URL of the runbook links in the alerts. In the chart, the value `runbookUrl` replaces it.
const RUNBOOKS: &str = "https://pintalk.example/grafana/README.md";

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no word: {value}"))
}

fn alerts() -> Vec<Value> {
    let file = yaml(&text(ALERTS));
    let all: Vec<Value> = list(&file["groups"]).flat_map(|group| list(&group["rules"])).cloned().collect();
    assert!(all.len() > 10);
    all
}

fn dashboard() -> Value {
    serde_json::from_str(&text(DASHBOARD)).expect("JSON")
}

fn promtool(arguments: &[&str]) -> String {
    printed(Command::new("promtool").args(arguments).current_dir(path("")))
}

#[test]
fn each_alert_fires_in_its_case_and_in_no_other() {
    assert!(promtool(&["check", "rules", ALERTS]).contains("SUCCESS"));
    assert!(promtool(&["test", "rules", CASES]).contains("SUCCESS"));
    let cases = yaml(&text(CASES));
    let (mut fires, mut quiet, mut explained) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for case in list(&cases["tests"]) {
        // A case may contain the series of a healthy installation in the namespace `good`. No alert may fire for this
        // installation.
        let has = |what: &str| list(&case["input_series"]).any(|series| word(&series["series"]).contains(what));
        let beside = has(r#"namespace="good""#);
        let away = has(r#"pintalk_degraded{job="pintalk", namespace="away""#);
        for test in list(&case["alert_rule_test"]) {
            let name = word(&test["alertname"]).to_owned();
            let expected: Vec<_> = list(&test["exp_alerts"]).collect();
            assert!(!expected.is_empty(), "{name}: nothing is expected to fire");
            if beside && expected.iter().all(|alert| alert["exp_labels"]["namespace"] == "bad") {
                quiet.insert(name.clone());
                explained.extend(away.then(|| name.clone()));
            }
            fires.insert(name);
        }
    }
    let all: BTreeSet<String> = alerts().iter().map(|alert| word(&alert["alert"]).to_owned()).collect();
    assert_eq!((&fires, &quiet), (&all, &all));
    let silent = alerts().into_iter().filter(|alert| {
        let query = word(&alert["expr"]);
        query.split("unless").skip(1).any(|reason| reason.contains("pintalk_degraded"))
    });
    let silent: BTreeSet<String> = silent.map(|alert| word(&alert["alert"]).to_owned()).collect();
    assert!(
        silent.len() >= 10 && silent == explained,
        "silent while a store is away: {silent:?}, shown: {explained:?}"
    );
}

#[test]
fn each_alert_links_to_its_section_in_the_readme() {
    let readme = text("grafana/README.md");
    let (_, runbooks) = readme.split_once("\n## Alerts\n").expect("a chapter");
    let sections: Vec<&str> = runbooks.split("\n### ").skip(1).collect();
    let alerts = alerts();
    assert_eq!(sections.len(), alerts.len());
    for (section, alert) in sections.iter().zip(&alerts) {
        let name = word(&alert["alert"]);
        let severity = word(&alert["labels"]["severity"]);
        assert!(["critical", "warning"].contains(&severity), "{name}");
        assert!(section.starts_with(&format!("{name}\n\nSeverity: {severity}. ")), "{name}, {severity}: {section}");
        assert!(section.contains("\n\nAction: "), "{name}");
        let annotations = &alert["annotations"];
        assert_eq!(annotations["runbook_url"], format!("{RUNBOOKS}#{}", name.to_lowercase()));
        assert!(word(&annotations["summary"]).len() > 10, "{name}");
    }
    assert!(runbooks.contains(&format!("`{RUNBOOKS}`")), "the document names the address to replace");
    let default = yaml(&text("helm/pintalk/values.yaml"))["metrics"]["prometheusRule"]["runbookUrl"].clone();
    assert_eq!(default, RUNBOOKS);
}

#[test]
fn chart_contains_these_alerts_and_this_dashboard() {
    let set = sets().into_iter().find(|set| set.contains("everything")).expect("a set with everything");
    for program in HELMS {
        let documents = rendered(program, CHART, &set);
        let of = |kind: &str| documents.iter().find(|document| document["kind"] == kind).expect("one of a kind");
        let elsewhere = text(ALERTS).replace(&format!("{RUNBOOKS}#"), "https://wiki.example/pintalk#");
        assert_eq!(of("PrometheusRule")["spec"], yaml(&elsewhere), "{program}");
        let shown: Value = serde_json::from_str(word(&of("ConfigMap")["data"]["pintalk.json"])).expect("JSON");
        assert_eq!(shown, dashboard(), "{program}");
    }
}

/// Returns all queries of the dashboard and of the alerts. The queries of the dashboard's variables are included.
fn queries() -> Vec<String> {
    let dashboard = dashboard();
    let panels = list(&dashboard["panels"]).flat_map(|panel| list(&panel["targets"]));
    let mut all: Vec<String> = panels.map(|target| word(&target["expr"]).to_owned()).collect();
    let variables = list(&dashboard["templating"]["list"]).filter_map(|variable| variable["query"]["query"].as_str());
    all.extend(variables.map(str::to_owned));
    all.extend(alerts().iter().map(|alert| word(&alert["expr"]).to_owned()));
    assert!(all.len() > 60);
    all
}

/// Returns the names of the metrics in a query. For the series of a histogram, returns the name of the histogram.
fn metrics(query: &str) -> BTreeSet<String> {
    let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let ours = words.filter(|word| word.starts_with("pintalk_") || word.starts_with("process_"));
    let of_histogram = |word: &str| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| word.strip_suffix(part));
        base.unwrap_or(word).to_owned()
    };
    ours.map(of_histogram).collect()
}

#[test]
fn every_metric_in_a_query_is_documented() {
    // The guide lists every metric of the program.
    let guide = text("grafana/README.md");
    let has = |name: &str| guide.contains(&format!("| `{name}` |"));
    let asked: BTreeSet<String> = queries().iter().flat_map(|query| metrics(query)).collect();
    let missing: Vec<_> = asked.iter().filter(|name| !has(name)).collect();
    assert!(missing.is_empty(), "not documented: {missing:?}");
    assert!(asked.contains("pintalk_leader") && asked.len() > 40, "{asked:?}");
}

#[test]
fn dashboard_rows_range_from_users_to_capacity() {
    let dashboard = dashboard();
    let panels: Vec<&Value> = list(&dashboard["panels"]).collect();
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "each has a number of its own");
    let rows: Vec<&str> = panels.iter().filter(|panel| panel["type"] == "row").map(|row| word(&row["title"])).collect();
    assert_eq!(rows, ["Users", "Delivery", "Stores", "Leader and jobs", "Capacity"]);
    let readme = text("grafana/README.md");
    assert!(rows.iter().all(|row| readme.contains(&format!("| {row} | "))));
    let (mut taken, mut below) = (BTreeSet::new(), 0);
    for panel in &panels {
        let title = word(&panel["title"]);
        let place = |side: &str| panel["gridPos"][side].as_u64().expect("a number");
        let (x, y, w, h) = (place("x"), place("y"), place("w"), place("h"));
        assert!(w > 0 && h > 0 && x + w <= 24 && y >= below, "{title}");
        for cell in (x..x + w).flat_map(|column| (y..y + h).map(move |line| (column, line))) {
            assert!(taken.insert(cell), "{title} lies over another");
        }
        if panel["type"] == "row" {
            below = y;
            continue;
        }
        assert!(word(&panel["description"]).len() > 10, "{title} explains its meaning");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(list(&panel["targets"]).next().is_some(), "{title} shows nothing");
        for target in list(&panel["targets"]) {
            // Every query must use the variables of the dashboard, which select the installation and the nodes.
            let query = word(&target["expr"]);
            assert_eq!(
                query.matches("{job=~\"$job\", instance=~\"$instance\"").count(),
                named(query),
                "{title}: {query}"
            );
        }
    }
}

/// Returns how many times a query names a metric of the program.
fn named(query: &str) -> usize {
    let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("pintalk_") || word.starts_with("process_")).count()
}
