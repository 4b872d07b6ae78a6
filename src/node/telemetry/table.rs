//! Table of all metrics, built from the declarations of the components.

use std::fmt::Write as _;

use metrics::counter;

use super::metrics::{ProcessMetrics, TraceMetrics};
use crate::accounts::metrics::{LimitMetrics, LoginMetrics};
use crate::backend::metrics::{BusMetrics, PresenceMetrics, RedisMetrics};
use crate::chat::metrics::{ArchiveMetrics, OutboxMetrics, RelayMetrics};
use crate::domain::metric::{LabelDescription, Metric, MetricKind, combinations};
use crate::http::metrics::{HttpMetrics, TcpMetrics};
use crate::node::metrics::{ClockMetrics, HealthMetrics, JobMetrics, LeaderMetrics, RecoveryMetrics};
use crate::outbound::metrics::{MailMetrics, NotificationMetrics, WebhookMetrics};
use crate::store::metrics::SqlMetrics;
use crate::ws::metrics::{JoinMetrics, SocketMetrics};

/// Metrics of each component, in the order of the table.
const TABLES: &[&[Metric]] = &[
    ProcessMetrics::TABLE,
    HealthMetrics::TABLE,
    SocketMetrics::TABLE,
    JoinMetrics::TABLE,
    OutboxMetrics::TABLE,
    RelayMetrics::TABLE,
    ArchiveMetrics::TABLE,
    RecoveryMetrics::TABLE,
    RedisMetrics::TABLE,
    BusMetrics::TABLE,
    SqlMetrics::TABLE,
    PresenceMetrics::TABLE,
    ClockMetrics::TABLE,
    LeaderMetrics::TABLE,
    JobMetrics::TABLE,
    TcpMetrics::TABLE,
    HttpMetrics::TABLE,
    LoginMetrics::TABLE,
    LimitMetrics::TABLE,
    MailMetrics::TABLE,
    NotificationMetrics::TABLE,
    WebhookMetrics::TABLE,
    TraceMetrics::TABLE,
];

/// Returns all metrics.
pub fn table() -> impl Iterator<Item = &'static Metric> {
    TABLES.iter().copied().flatten()
}

/// Renders the table in `grafana/README.md`, with one row per metric.
pub fn as_markdown() -> String {
    let mut text = String::from("| metric | type | labels | description |\n|---|---|---|---|\n");
    for metric in table() {
        let Metric { name, kind, labels, .. } = metric;
        let kind = format!("{kind:?}").to_lowercase();
        let labels: Vec<String> = labels.iter().map(LabelDescription::to_string).collect();
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "| `{name}` | {kind} | {} | {} |", labels.join(", "), metric.help());
    }
    text
}

/// Passes all help texts to the recorder. Sets each counter with known label values to 0, including those of components
/// that this node does not use. An alert on the increase of a counter needs a value from before the first event.
pub(super) fn describe() {
    for metric in table() {
        metric.describe();
        let is_rendered_separately = metric.name == "process_cpu_seconds_total";
        let has_open_label = metric.labels.iter().any(|label| label.values.is_empty());
        if metric.kind == MetricKind::Counter && !has_open_label && !is_rendered_separately {
            for labels in combinations(metric.labels) {
                counter!(metric.name, labels).increment(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use super::*;

    const ROOT: &str = env!("CARGO_MANIFEST_DIR");

    /// Reads all Rust files below `folder`. Appends the path and the content of each to `sources`.
    fn read(folder: &Path, sources: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                sources.push((path.display().to_string(), text));
            }
        }
    }

    fn sources() -> Vec<(String, String)> {
        let mut sources = Vec::new();
        read(&Path::new(ROOT).join("src"), &mut sources);
        assert!(sources.len() > 100, "{}", sources.len());
        sources
    }

    #[test]
    fn grafana_readme_has_this_table() {
        let readme = std::fs::read_to_string(Path::new(ROOT).join("grafana/README.md")).unwrap();
        let table = as_markdown();
        assert!(readme.contains(&table), "grafana/README.md must have these rows:\n{table}");
    }

    #[test]
    fn metrics_are_recorded_through_declared_handles() {
        let allowed = ["src/domain/metric.rs", "src/node/telemetry/table.rs"];
        for (path, text) in sources().iter().filter(|(path, _)| !allowed.iter().any(|end| path.ends_with(end))) {
            for call in ["counter!(", "gauge!(", "histogram!("] {
                assert!(!text.contains(call), "{path} looks up a metric by name");
            }
        }
    }

    #[test]
    fn every_set_is_in_the_table() {
        let own = include_str!("table.rs");
        for (path, text) in sources().iter().filter(|(path, _)| path.ends_with("metrics.rs")) {
            for declared in text.split("metric_set! {").skip(1) {
                let name = declared.split("struct ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
                assert!(own.contains(&format!("    {name}::TABLE,\n")), "{path}: {name}");
            }
        }
    }

    #[test]
    fn names_follow_prometheus_and_histograms_have_buckets() {
        let mut names = HashSet::new();
        for metric in table() {
            let Metric { name, kind, .. } = *metric;
            assert!(names.insert(name), "{name} is declared twice");
            assert!(name.starts_with("pintalk_") || name.starts_with("process_"), "{name}");
            assert_eq!(kind == MetricKind::Counter, name.ends_with("_total"), "{name}");
            let has_buckets = name.ends_with("_seconds") || name.ends_with("_size");
            assert!(kind != MetricKind::Histogram || has_buckets, "{name}");
            assert!(metric.help().ends_with('.') && !metric.help().contains('|'), "{name}");
        }
    }
}
