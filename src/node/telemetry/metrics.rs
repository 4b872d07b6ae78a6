//! Metrics of the process.

use metrics::Label;

use crate::domain::metric::{
    Counter, Family, Gauge, LabelDescription, Metric, OnFirstUse, OpenFamily, OpenLabels, label, metric_set,
};

metric_set! {
    /// Metrics of the process. If the system does not report a value, its metric is absent.
    pub(crate) struct ProcessMetrics {
        /// Always 1; the labels identify the build.
        build_info: OpenFamily<metrics::Gauge, Build> = "pintalk_build_info", Count;
        /// Start time of the process, in seconds since 1970.
        start_time: Gauge = "process_start_time_seconds", Seconds;
        /// Resident memory of the process.
        resident_memory: Gauge = "process_resident_memory_bytes", Bytes;
        /// CPU time of the process, user and system.
        cpu_time: OnFirstUse<Counter> = "process_cpu_seconds_total", Seconds;
        /// Open file descriptors.
        open_fds: Gauge = "process_open_fds", Count;
        /// Maximum number of open file descriptors.
        max_fds: Gauge = "process_max_fds", Count;
        /// Log lines dropped because standard error did not accept them.
        log_lines_dropped: Family<Counter, DropReason> = "pintalk_log_lines_dropped_total", Count;
    }
}

impl ProcessMetrics {
    /// Updates the gauges. Returns the CPU time in seconds, because the recorder supports only integer counters.
    pub(super) fn observe(&self) -> Option<f64> {
        let found = metrics_process::collector::collect();
        let gauges = [
            (&self.resident_memory, found.resident_memory_bytes),
            (&self.open_fds, found.open_fds),
            (&self.max_fds, found.max_fds),
        ];
        for (gauge, value) in gauges {
            if let Some(value) = value {
                gauge.set(value as f64);
            }
        }
        found.cpu_seconds_total
    }

    /// Renders the CPU time in the Prometheus text format.
    pub(super) fn render_cpu_time(&self, seconds: f64) -> String {
        let name = self.cpu_time.name();
        let help = Self::TABLE.iter().find(|metric| metric.name == name).map_or("", Metric::help);
        format!("# HELP {name} {help}\n# TYPE {name} counter\n{name} {seconds}\n\n")
    }
}

label! {
    /// Reason why a log line was dropped.
    pub(crate) enum DropReason = "reason" {
        BufferFull = "buffer_full",
        WriteFailed = "write_failed",
    }
}

/// Labels that identify this build.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Build;

impl OpenLabels for Build {
    const LABELS: &'static [LabelDescription] = &[
        LabelDescription { name: "version", values: &[] },
        LabelDescription { name: "revision", values: &[] },
        LabelDescription { name: "rust_version", values: &[] },
    ];

    fn labels(self) -> Vec<Label> {
        vec![
            Label::from_static_parts("version", env!("CARGO_PKG_VERSION")),
            Label::from_static_parts("revision", env!("PINTALK_BUILD_REVISION")),
            Label::from_static_parts("rust_version", env!("PINTALK_BUILD_RUST")),
        ]
    }
}

metric_set! {
    /// Metrics of the trace exporter.
    pub(crate) struct TraceMetrics {
        /// Batches of spans sent to the collector; failed batches are lost.
        exports: Family<Counter, ExportOutcome> = "pintalk_trace_exports_total", Count;
    }
}

label! {
    /// Outcome of an export of spans.
    pub(crate) enum ExportOutcome = "outcome" {
        Sent = "sent",
        Failed = "failed",
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn process_metrics_follow_the_process() {
        let collect = metrics_process::collector::collect;
        let found = collect();
        assert!(found.resident_memory_bytes.is_some_and(|bytes| bytes > 1_000_000));
        let (open, most) = (found.open_fds.unwrap(), found.max_fds.unwrap());
        assert!(open >= 3 && open <= most, "{open} of {most}");
        let held: Vec<std::fs::File> = (0..20).map(|_| std::fs::File::open("/proc/self/stat").unwrap()).collect();
        assert!(collect().open_fds.unwrap() >= open + held.len() as u64 - 3);
        let (before, began) = (collect().cpu_seconds_total.unwrap(), std::time::Instant::now());
        while collect().cpu_seconds_total.unwrap() < before + 0.1 {
            assert!(began.elapsed() < std::time::Duration::from_secs(20), "{before}");
        }
    }
}
