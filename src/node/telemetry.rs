//! Telemetry of the process: logs, Prometheus metrics and traces.
//!
//! All three are global to the process. Tests run several nodes in one process, so only the first call to each setup
//! function has an effect.

use std::io::IsTerminal as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::{Level, Metadata};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::backend::shutdown::Shutdown;
use crate::domain::clock::Clock;
use crate::node::config::LogFormat;

mod log;
pub(crate) mod metrics;
mod otlp;
mod table;

use self::metrics::{Build, ProcessMetrics};
pub use log::{flush, log_panics, print};
pub use otlp::{Traces, traces};
pub use table::{as_markdown, table};

/// Interval at which the recorder compacts its histogram samples. Otherwise the samples would accumulate until the next
/// scrape.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Upper bounds of the histogram buckets for durations, in seconds. They range from the duration of a loopback call to
/// the longest timeout.
const SECONDS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Upper bounds of the histogram buckets for batch sizes. A call to the broker contains at most 256 messages, or 64 on
/// a Redis Cluster. A batch of the archiver contains at most 2,000 messages.
const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 500.0, 1_000.0, 2_000.0];

static METRICS: OnceLock<Metrics> = OnceLock::new();

/// Handle to the metrics recorder of the process.
#[derive(Clone)]
pub struct Metrics {
    recorder: PrometheusHandle,
    process: Arc<ProcessMetrics>,
}

impl Metrics {
    /// Renders all metrics in the Prometheus text format.
    pub fn render(&self) -> String {
        log::observe(&self.process);
        let cpu_seconds = self.process.observe();
        let mut text = self.recorder.render();
        text.extend(cpu_seconds.map(|seconds| self.process.render_cpu_time(seconds)));
        text
    }

    /// Spawns the task that performs the upkeep of the recorder until the node stops.
    pub fn keep_up(&self, shutdown: &Shutdown) {
        let (recorder, stopping) = (self.recorder.clone(), shutdown.stopping_token());
        shutdown.spawn(async move {
            let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
            while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
                recorder.run_upkeep();
            }
        });
    }
}

/// Log filter that applies if RUST_LOG is not set. It suppresses the info event that sqlx logs for each idle connection
/// that the database has closed.
pub const DEFAULT_FILTER: &str = "info,sqlx=warn,sqlx_core=warn";

/// Returns whether an event may be logged regardless of RUST_LOG. Debug events of libraries may contain texts of
/// messages, tokens and addresses.
fn is_fit(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let is_ours = target.strip_prefix("pintalk").is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    is_ours || *metadata.level() <= Level::INFO
}

/// Starts logging to standard error. The filter is the value of RUST_LOG or, if that is not set, `default`. Events of
/// libraries below level info are never logged.
pub fn log(format: LogFormat, default: &str) {
    let given = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|directives| !directives.is_empty());
    let parsed = given.as_ref().map(EnvFilter::try_new);
    let unreadable = matches!(parsed, Some(Err(_)));
    let filter = parsed.and_then(Result::ok).unwrap_or_else(|| EnvFilter::new(default));
    let ansi = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_ansi(ansi).log_internal_errors(false);
    let writer = log::start(|writer| {
        let lines = fmt::layer::<Registry>().with_ansi(ansi).log_internal_errors(false).with_writer(writer);
        match format {
            LogFormat::Text => Registry::default().with(lines).into(),
            LogFormat::Json => Registry::default().with(lines.json().flatten_event(true)).into(),
        }
    });
    let lines = lines.with_writer(writer);
    let log = tracing_subscriber::registry().with(filter).with(filter_fn(is_fit));
    // An error means that the process already has a log. That log remains in use.
    let _ = match format {
        LogFormat::Text => log.with(lines).try_init(),
        LogFormat::Json => log.with(lines.json().flatten_event(true)).try_init(),
    };
    if unreadable {
        tracing::warn!("invalid RUST_LOG ignored");
    }
}

/// Installs the metrics recorder and returns it. Later calls return the same recorder.
pub fn metrics(clock: &dyn Clock) -> Metrics {
    METRICS
        .get_or_init(|| {
            let recorder = builder().build_recorder();
            let handle = recorder.handle();
            if ::metrics::set_global_recorder(recorder).is_err() {
                tracing::error!("metrics recorder already installed: /metrics stays empty");
            }
            table::describe();
            let process = ProcessMetrics::default();
            process.build_info.find(Build).set(1);
            process.start_time.set(clock.now().timestamp_millis() as f64 / 1000.0);
            Metrics { recorder: handle, process: Arc::new(process) }
        })
        .clone()
}

/// Configures buckets for all histograms. Histograms without buckets would be exported as summaries, which cannot be
/// aggregated over nodes.
fn builder() -> PrometheusBuilder {
    let seconds = Matcher::Suffix("_seconds".to_owned());
    let sizes = Matcher::Suffix("_size".to_owned());
    // The call fails only if the list of buckets is empty.
    PrometheusBuilder::new()
        .set_buckets_for_metric(seconds, SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(sizes, SIZES))
        .unwrap_or_else(|_| PrometheusBuilder::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::SystemClock;
    use crate::http::metrics::{CallLabels, HttpMetrics};

    /// Compares the series that are exported before any event with a file. Ignores series that differ between builds.
    #[test]
    fn counters_with_known_labels_start_at_zero() {
        let rendered = metrics(&SystemClock).render();
        let mut samples: Vec<&str> =
            rendered.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        samples.retain(|line| !line.starts_with("process_") && !line.starts_with("pintalk_build_info"));
        samples.sort_unstable();
        let golden = include_str!("telemetry/at_start.txt");
        assert_eq!(samples.join("\n"), golden.trim_end(), "{}", samples.join("\n"));
    }

    #[tokio::test]
    async fn installing_twice_in_one_process_records_once() {
        log(LogFormat::Text, DEFAULT_FILTER);
        log(LogFormat::Json, DEFAULT_FILTER);
        let (first, second) = (metrics(&SystemClock), metrics(&SystemClock));
        let labels = CallLabels { route: "/x", method: "GET", status: http::StatusCode::OK };
        HttpMetrics::default().duration.find(labels).record(0.003);
        let (shown, again) = (first.render(), second.render());
        // The order of the lines is undefined, and the metrics of the process change between calls.
        let lines = |text: &str| {
            let lines = text.lines().filter(|line| !line.starts_with("process_")).map(str::to_owned);
            lines.collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(lines(&shown), lines(&again));
        assert!(shown.contains("pintalk_build_info{version=") && shown.contains("rust_version=\"1."), "{shown}");
        assert!(shown.contains("pintalk_dead_letters_total 0"), "{shown}");
        assert!(shown.contains("process_cpu_seconds_total "), "{shown}");
        assert!(shown.contains("# HELP pintalk_http_request_duration_seconds"), "{shown}");
        assert!(shown.contains("pintalk_http_request_duration_seconds_bucket{") && !shown.contains("quantile"));
        let shutdown = Shutdown::new();
        first.keep_up(&shutdown);
        tokio::task::yield_now().await;
        shutdown.finish().await;
    }
}
