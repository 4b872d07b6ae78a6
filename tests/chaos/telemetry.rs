//! Tests the metrics and the log of a cluster in use.

use std::collections::{BTreeMap, HashSet};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use pintalk_kit::proxy::Wire;
use pintalk_kit::webhook_receiver::Receiver;
use reqwest::Method;
use serde_json::{Value, json};

use crate::eventually;
use crate::setup::{EMAIL, JWT_SECRET, PASSWORD, Plan, Setup};
use crate::socket::{Event, SHOP, Socket};

/// Maximum time until all events that the test counts have occurred. Jobs and e-mails take several seconds.
const SHOWN: Duration = Duration::from_secs(30);

/// Returns the metrics of a node in the format that Prometheus reads, or `None` if the request fails.
async fn scrape(setup: &Setup, node: usize) -> Option<String> {
    let answer = setup.http.get(setup.nodes[node].url("/metrics")).send().await.ok()?;
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    answer.text().await.ok()
}

/// Row of the table of metrics in `grafana/README.md`.
struct Documented<'a> {
    kind: &'a str,
    /// Permitted values of each label. If none are listed, the label may have any value.
    labels: BTreeMap<&'a str, Vec<&'a str>>,
    help: &'a str,
}

impl Documented<'_> {
    fn allows(&self, labels: &BTreeMap<&str, &str>) -> bool {
        labels.keys().eq(self.labels.keys())
            && labels.iter().all(|(name, value)| {
                let values = &self.labels[name];
                values.is_empty() || values.contains(value)
            })
    }
}

/// Parses the table of metrics in `grafana/README.md`.
fn documented(readme: &str) -> BTreeMap<&str, Documented<'_>> {
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    let rows = rows.filter_map(|row| {
        let [name, kind, labels, help] = row.split(" | ").collect::<Vec<_>>().try_into().ok()?;
        // A cell is, for example, "`duty`, `outcome` (done, failed), `host`". The values in parentheses belong to the
        // label before them.
        let labels = labels.trim().split("), ").flat_map(|part| {
            let (names, values) = part.split_once(" (").unwrap_or((part, ""));
            let values: Vec<&str> =
                values.trim_end_matches(')').split(", ").filter(|value| !value.is_empty()).collect();
            let names: Vec<&str> = names.split(", ").filter(|name| !name.is_empty()).collect();
            let last = names.len().saturating_sub(1);
            let of = move |at: usize| if at == last { values.clone() } else { Vec::new() };
            names.into_iter().enumerate().map(move |(at, name)| (name, of(at))).collect::<Vec<_>>()
        });
        let labels = labels.map(|(name, values)| (name.trim_matches('`'), values)).collect();
        let is_metric = ["counter", "gauge", "histogram"].contains(&kind);
        is_metric.then(|| (name.trim_end_matches('`'), Documented { kind, labels, help }))
    });
    rows.collect()
}

/// Splits a sample into the name of its metric and its labels. The suffix and the label `le` of a histogram's series
/// are removed.
fn sample(line: &str) -> (&str, BTreeMap<&str, &str>) {
    let (series, _) = line.rsplit_once(' ').expect("a value");
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let labels = labels.trim_end_matches('}').split("\",").filter_map(|label| label.split_once("=\""));
    let labels = labels.map(|(name, value)| (name, value.trim_end_matches('"')));
    (name, labels.filter(|(name, _)| *name != "le").collect())
}

/// Checks that the metrics of a node match the table in name, type, help text, labels and label values. Returns the
/// names of the metrics.
fn check<'a>(text: &'a str, documented: &BTreeMap<&str, Documented<'_>>) -> HashSet<&'a str> {
    let mut found = HashSet::new();
    let mut current = "";
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            assert_eq!(documented.get(name).map(|row| row.help), Some(help), "{name}");
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            assert_eq!(documented.get(name).map(|row| row.kind), Some(kind), "{name}");
            found.insert(name);
            current = name;
        } else {
            let (name, labels) = sample(line);
            let part = name.strip_prefix(current).unwrap_or_else(|| panic!("{line} is below {current}"));
            assert!(["", "_bucket", "_sum", "_count"].contains(&part), "{line}");
            assert!(documented[current].allows(&labels), "{line}");
        }
    }
    found
}

/// Returns the warnings of promtool for the metrics of a node.
fn promtool(text: &str) -> String {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool, as tests/run sees to");
    promtool.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    let said = promtool.wait_with_output().expect("it ends");
    let said = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(!text.is_empty());
    said
}

/// Returns the sum of all samples whose lines start with `begins`.
fn value(text: &str, begins: &str) -> f64 {
    let lines = text.lines().filter(|line| line.starts_with(begins));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_in_use_exposes_every_metric_and_promtool_has_no_findings() {
    let flags = ["--webhook-private", "127.0.0.1"].map(str::to_owned).to_vec();
    let plan = Plan { nodes: 2, flags, ..Plan::default() };
    let setup = Setup::set("cluster_in_use", plan).await;
    let receiver = Receiver::start().await;
    let webhook = format!("/api/users/{}/webhook/", setup.host.id.0);
    assert_eq!(setup.call(0, Method::PUT, &webhook, json!({"url": receiver.url()})).await.0, 201);
    // These requests come from a visitor of an unregistered site, name an unknown path, or use a method that is not
    // allowed.
    let path = setup.guest_path(0);
    let mut stranger =
        Socket::open(setup.nodes[0].address, &path, Some("https://elsewhere.example")).await.expect("open");
    assert!(matches!(stranger.receive().await, Event::Closed { .. }));
    for path in ["/nothing/a", "/nothing/b", &setup.room_path(0)] {
        setup.call(0, Method::GET, path, Value::Null).await;
    }
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/grafana/README.md");
    let readme = std::fs::read_to_string(readme).expect("the table of metrics");
    let documented = documented(&readme);
    let every: HashSet<&str> = documented.keys().copied().collect();
    let texts = eventually("every metric is shown", SHOWN, async || {
        let texts = [scrape(&setup, 0).await?, scrape(&setup, 1).await?];
        let found: HashSet<&str> = texts.iter().flat_map(|text| check(text, &documented)).collect();
        let missing: Vec<_> = every.difference(&found).collect();
        if missing.is_empty() { Some(texts) } else { None }
    })
    .await;
    for text in &texts {
        assert_eq!(promtool(text), "", "{text}");
    }
    let [first, second] = &texts;
    let both = |begins: &str| value(first, begins) + value(second, begins);
    for happened in [
        "pintalk_messages_total{result=\"accepted\"}",
        "pintalk_messages_delivered_total",
        "pintalk_relay_duration_seconds_count{path=\"local\"}",
        "pintalk_relay_duration_seconds_count{path=\"remote\"}",
        "pintalk_acknowledge_duration_seconds_count",
        "pintalk_messages_archived_total",
        "pintalk_handshakes_total{kind=\"chat\",result=\"refused\"}",
        "pintalk_closes_total{code=\"4",
        "pintalk_redis_round_trip_seconds_count",
        "pintalk_sql_duration_seconds_count{operation=\"archive\"}",
        "pintalk_webhook_duration_seconds_count",
        "process_cpu_seconds_total",
        "process_open_fds",
    ] {
        assert!(both(happened) > 0.0, "{happened} is 0");
    }
    assert_eq!(both("pintalk_leader"), 1.0);
    // With few clients, the mean relay duration is well below one second.
    let relayed = both("pintalk_relay_duration_seconds_sum") / both("pintalk_relay_duration_seconds_count");
    assert!(relayed < 1.0, "{relayed} s from acceptance to outbox");
    let routes: HashSet<&str> = first.split("route=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(
        routes.contains("/api/chat/chatrooms/{id}/") && !routes.iter().any(|route| route.contains("nothing")),
        "{routes:?}"
    );
    setup.finish(|_, figures| figures.note("relayed ms", format!("{:.1}", relayed * 1_000.0))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_log_level_shows_a_secret_and_every_line_has_its_fields() {
    let flags = ["--log-format", "json"].map(str::to_owned).to_vec();
    let plan = Plan { nodes: 2, rooms: 2, flags, level: "trace", wired_redis: true, ..Plan::default() };
    let mut setup = Setup::set("no_log_level_shows_a_secret", plan).await;
    let mut secrets: Vec<String> = [JWT_SECRET, EMAIL, PASSWORD, "가가"].map(str::to_owned).to_vec();
    secrets.extend([setup.host.secret_key.clone(), setup.token.clone()]);

    // These requests cause e-mails to known and unknown addresses, failed logins, wrong codes and invalid tokens.
    for (path, body) in [
        ("/api/auth/check-email/", json!({"email": "somebody@mail.example"})),
        ("/api/auth/login/", json!({"email": "other@mail.example", "password": "a-password-of-mine"})),
        ("/api/auth/login/", json!({"email": EMAIL, "password": "a-password-of-mine"})),
        ("/api/auth/password-reset/", json!({"email": EMAIL})),
        ("/api/auth/email-confirmation/", json!({"verificationCode": "code-of-mine"})),
    ] {
        let request = setup.http.post(setup.nodes[0].url(path)).json(&body);
        let answer = request.header("Cookie", "refreshToken=a-cookie-of-mine").send().await.expect("an answer");
        let cookies = answer.headers().get_all("set-cookie").iter().filter_map(|cookie| cookie.to_str().ok());
        let values = cookies.filter_map(|cookie| cookie.split(';').next()?.split_once('=')).map(|(_, value)| value);
        secrets.extend(values.filter(|value| value.len() > 8).map(str::to_owned));
    }
    secrets.extend(["mail.example", "a-password-of-mine", "code-of-mine", "a-cookie-of-mine"].map(str::to_owned));
    let forged = format!("/ws/chat/{}/?token=a-token-of-mine", setup.rooms[0].name);
    let mut forger = Socket::open(setup.nodes[0].address, &forged, None).await.expect("open");
    assert!(matches!(forger.receive().await, Event::Closed { .. }));
    secrets.push("a-token-of-mine".to_owned());
    let mut guest = Socket::open(setup.nodes[1].address, &setup.guest_path(0), Some(SHOP)).await.expect("open");
    assert!(guest.send("{\"type\":\"chat_message\",\"message\":\"words-of-mine").await);
    while let Event::Frame(_) = guest.receive().await {}
    secrets.push("words-of-mine".to_owned());

    // Faults of Redis and MySQL make the nodes log errors, which have the most fields.
    setup.redis_wire().reset().await;
    setup.sql_wire().set(Wire::Cut);
    eventually("SQL is missed", SHOWN, async || setup.nodes[0].logged().contains("sql not writable").then_some(()))
        .await;
    setup.sql_wire().set(Wire::Whole);
    setup.log_in_again().await;
    secrets.push(setup.token.clone());
    setup.readiness_is(200, SHOWN).await;

    let logs: Vec<String> = setup.nodes.iter().map(pintalk_kit::node::Node::logged).collect();
    let mut levels: HashSet<String> = HashSet::new();
    for line in logs.iter().flat_map(|log| log.lines()) {
        for secret in &secrets {
            assert!(!line.contains(secret.as_str()), "{secret} is in the log: {line}");
        }
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let field = |name: &str| event[name].as_str().unwrap_or_else(|| panic!("no {name}: {line}")).to_owned();
        let (level, target) = (field("level"), field("target"));
        let time = field("timestamp");
        assert!(chrono::DateTime::parse_from_rfc3339(&time).is_ok_and(|_| time.ends_with('Z')), "{line}");
        let is_ours = target == "pintalk" || target.starts_with("pintalk::");
        assert!(is_ours || ["ERROR", "WARN", "INFO"].contains(&level.as_str()), "a library in detail: {line}");
        // Every log line of the program has a message. Variable data is in the other fields.
        assert!(!is_ours || field("message").len() > 3, "{line}");
        levels.insert(level);
    }
    for level in ["DEBUG", "INFO", "WARN"] {
        assert!(levels.contains(level), "nothing was logged at {level}");
    }
    setup.finish(|_, _| {}).await;
}
