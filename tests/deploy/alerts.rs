//! Tests that Prometheus accepts the alerts and the queries of the dashboard, and that both refer only to existing
//! metrics.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::chart::{CHART, HELMS, given, refused, rendered, sets};
use crate::tools::{path, printed, text, yaml};

const ALERTS: &str = "grafana/alerts.yaml";
const CASES: &str = "grafana/alerts.test.yaml";
const DASHBOARD: &str = "grafana/dashboard.json";
/// Base URL of the runbook links in the alerts. In the chart, the value `runbookUrl` replaces it.
const RUNBOOKS: &str = "https://pintalk.example/grafana/README.md";
/// Labels that distinguish installations.
const INSTALLATION: &str = "cluster, namespace, job";
/// Alerts on a state, whose value is always the same.
const STATES: [&str; 8] = [
    "PinTalkNoNodeReady",
    "PinTalkNodeDown",
    "PinTalkNodeNotReady",
    "PinTalkSuspended",
    "PinTalkRedisUnavailable",
    "PinTalkSqlUnavailable",
    "PinTalkSqlNotWritable",
    "PinTalkDutyLate",
];

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
fn each_section_of_the_runbook_states_effect_confirmation_and_repair() {
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
        let (users, rest) = section.split_once("\n\nConfirm: ").unwrap_or_else(|| panic!("{name}: how to confirm it"));
        let (confirm, repair) = rest.split_once("\n\nRepair: ").unwrap_or_else(|| panic!("{name}: how to repair it"));
        assert!(users.len() > 40 && repair.len() > 20, "{name}");
        assert!(confirm.contains('`'), "{name}: no command, query or log line confirms it");
    }
    assert!(runbooks.contains(&format!("`{RUNBOOKS}`")), "the document names the address to replace");
}

#[test]
fn each_alert_states_its_values_and_links_to_its_section() {
    let mut states = BTreeSet::new();
    for alert in alerts() {
        let name = word(&alert["alert"]);
        let annotations = &alert["annotations"];
        let (summary, description) = (word(&annotations["summary"]), word(&annotations["description"]));
        assert_eq!(annotations["runbook_url"], format!("{RUNBOOKS}#{}", name.to_lowercase()));
        assert!(summary.len() > 10 && description.len() > summary.len(), "{name}");
        assert!(description.contains("$labels."), "{name}: the description names no installation, node or store");
        let formatted = ["{{ $value }}", "{{ $value | humanize"].iter().any(|value| description.contains(value));
        if !formatted {
            states.insert(name.to_owned());
        }
    }
    assert_eq!(states, STATES.map(str::to_owned).into());
}

#[test]
fn chart_rejects_rules_without_an_address_of_the_runbook() {
    let (theirs, enabled) = ("secrets.existingSecret=mine", "metrics.prometheusRule.enabled=true");
    let said = refused(&[theirs, enabled]);
    assert!(said.contains("metrics.prometheusRule.runbookUrl must be the URL"), "{said}");
    refused(&[theirs, enabled, "metrics.prometheusRule.runbookUrl=grafana/README.md"]);
    given("helm4", &[theirs, enabled, "metrics.prometheusRule.runbookUrl=https://wiki.example/pintalk"]);
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
fn every_metric_is_on_a_panel_or_in_an_alert() {
    // A test of the program compares this table with the metrics that it declares.
    let guide = text("grafana/README.md");
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let kinds = ["counter |", "gauge |", "histogram |"];
    let declared: BTreeSet<String> = rows
        .filter(|(_, rest)| kinds.iter().any(|kind| rest.starts_with(kind)))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert!(declared.len() > 60, "{declared:?}");
    let asked: BTreeSet<String> = queries().iter().flat_map(|query| metrics(query)).collect();
    let unused: Vec<&String> = declared.difference(&asked).collect();
    assert!(unused.is_empty(), "add these metrics to a panel or an alert: {unused:?}");
}

/// Fails if a query aggregates or matches series of different installations.
fn keeps_installations_apart(place: &str, query: &str) {
    // `on ()` matches the result of `absent`, which has no labels.
    let query = query.replace("on () absent(", "");
    for operator in ["by (", "on ("] {
        for labels in query.split(operator).skip(1) {
            assert!(labels.starts_with(INSTALLATION), "{place}: {operator}{labels}");
        }
    }
    let aggregations = ["sum", "max", "min", "avg", "count", "group", "topk"];
    let words: Vec<&str> = query.split_whitespace().collect();
    for pair in words.windows(2) {
        let name = pair[0].trim_start_matches(['(', '-']).rsplit('(').next().unwrap_or_default();
        assert!(!aggregations.contains(&name) || pair[1] == "by", "{place}: {name} {}", pair[1]);
    }
    let bare =
        aggregations.iter().any(|name| query.contains(&format!(" {name}(")) || query.starts_with(&format!("{name}(")));
    assert!(!bare && !query.contains("without") && !query.contains("ignoring"), "{place}: {query}");
}

#[test]
fn no_query_combines_two_installations() {
    for alert in alerts() {
        keeps_installations_apart(word(&alert["alert"]), word(&alert["expr"]));
    }
    let dashboard = dashboard();
    for panel in list(&dashboard["panels"]) {
        let title = word(&panel["title"]);
        for target in list(&panel["targets"]) {
            let (query, legend) = (word(&target["expr"]), word(&target["legendFormat"]));
            keeps_installations_apart(title, query);
            if panel["type"] == "table" {
                continue;
            }
            assert!(legend.starts_with("{{cluster}} {{namespace}} {{job}}"), "{title}: {legend}");
            let first = query.split("by (").nth(1).and_then(|labels| labels.split(')').next()).unwrap_or_default();
            assert_eq!(first.contains("instance"), legend.contains("{{instance}}"), "{title}: {query}, {legend}");
        }
    }
    let names: Vec<&str> = list(&dashboard["templating"]["list"]).map(|variable| word(&variable["name"])).collect();
    assert_eq!(names, ["datasource", "cluster", "namespace", "job", "instance"]);
    // The value matches a label that is absent, so the dashboard works without `cluster` and `namespace`.
    assert!(list(&dashboard["templating"]["list"]).skip(1).all(|variable| variable["allValue"] == ".*"));
}

#[test]
fn ready_nodes_are_green_only_if_all_are_ready() {
    let dashboard = dashboard();
    let mut panels = list(&dashboard["panels"]);
    let panel = panels.find(|panel| panel["title"] == "Share of nodes ready").expect("a panel");
    let steps: Vec<&Value> = list(&panel["fieldConfig"]["defaults"]["thresholds"]["steps"]).collect();
    let green: Vec<&Value> = steps.iter().filter(|step| step["color"] == "green").map(|step| &step["value"]).collect();
    assert_eq!((green, steps.len()), (vec![&Value::from(1)], 3));
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
            assert_eq!(query.matches(SELECTED).count(), named(query), "{title}: {query}");
        }
    }
}

/// Selector that each query uses for each metric.
const SELECTED: &str = "{cluster=~\"$cluster\", namespace=~\"$namespace\", job=~\"$job\", instance=~\"$instance\"";

/// Returns how many times a query names a metric of the program or `up`.
fn named(query: &str) -> usize {
    let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("pintalk_") || word.starts_with("process_") || *word == "up").count()
}
