//! Metrics of health, clocks, the leader and its jobs.

use metrics::{Histogram, Label};

use crate::domain::StoreCause;
use crate::domain::metric::{
    Counter, Family, Gauge, LabelDescription, LabelValue as _, OpenFamily, OpenLabels, StoreKind, label, metric_set,
};

metric_set! {
    /// Metrics of a node's readiness.
    pub(crate) struct HealthMetrics {
        /// 1 while /health/ready answers 200.
        ready: Gauge = "pintalk_ready", Count;
        /// 1 while the store is unreachable, or SQL is read-only, full or cannot be written for another reason.
        degraded: Family<Gauge, StoreKind> = "pintalk_degraded", Count;
        /// 1 while SQL cannot be written for this reason.
        sql_fault: Family<Gauge, SqlFault> = "pintalk_sql_fault", Count;
    }
}

label! {
    /// Reason why SQL cannot be written.
    pub(crate) enum SqlFault = "reason" {
        Unreachable = "unreachable",
        ReadOnly = "read_only",
        Full = "full",
        Denied = "denied",
        Locked = "locked",
        FilesLost = "files_lost",
        Failing = "failing",
    }
}

impl From<&StoreCause> for SqlFault {
    fn from(cause: &StoreCause) -> Self {
        match cause {
            StoreCause::ReadOnly => Self::ReadOnly,
            StoreCause::Full => Self::Full,
            StoreCause::Locked => Self::Locked,
            StoreCause::FilesLost => Self::FilesLost,
            cause if cause.is_denial() => Self::Denied,
            cause if cause.is_of_network() => Self::Unreachable,
            _ => Self::Failing,
        }
    }
}

metric_set! {
    /// Metrics of the comparison of the database with Redis.
    pub(crate) struct RecoveryMetrics {
        /// Number of times a store was found in an earlier state; every increase raises an alert.
        recoveries: Family<Counter, StoreKind> = "pintalk_recoveries_total", Count;
    }
}

metric_set! {
    /// Metrics of clocks.
    pub(crate) struct ClockMetrics {
        /// This machine's clock minus the store's; with several Redis servers, the largest difference. Absent with
        /// SQLite.
        skew: Family<Gauge, StoreKind> = "pintalk_clock_skew_seconds", Seconds;
    }
}

metric_set! {
    /// Metrics of the leader lease.
    pub(crate) struct LeaderMetrics {
        /// 1 on the leader, 0 on other nodes.
        leader: Gauge = "pintalk_leader", Count;
    }
}

metric_set! {
    /// Metrics of the leader's jobs.
    pub(crate) struct JobMetrics {
        /// Runs of a job on the leader; failed runs are retried.
        runs: OpenFamily<Counter, JobRun> = "pintalk_duty_runs_total", Count;
        /// Rows that a job acted on.
        rows: OpenFamily<Counter, JobName> = "pintalk_duty_rows_total", Count;
        /// Duration of a job's run, with all its batches and the pauses between them.
        duration: OpenFamily<Histogram, JobName> = "pintalk_duty_duration_seconds", Seconds;
        /// Time of the job's last successful run on this node.
        last_success: OpenFamily<metrics::Gauge, JobName> = "pintalk_duty_last_success_timestamp_seconds", Seconds;
        /// E-mails that wait to be sent, counted by the leader; 0 on other nodes.
        mails_waiting: Gauge = "pintalk_mails_waiting", Count;
    }
}

/// Name of a job as a label.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JobName(pub(crate) &'static str);

const DUTY: LabelDescription = LabelDescription { name: "duty", values: &[] };

impl OpenLabels for JobName {
    const LABELS: &'static [LabelDescription] = &[DUTY];

    fn labels(self) -> Vec<Label> {
        vec![Label::from_static_parts("duty", self.0)]
    }
}

label! {
    /// Outcome of a job's run.
    pub(crate) enum JobOutcome = "outcome" {
        Done = "done",
        Failed = "failed",
    }
}

/// Labels of a job's run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JobRun(pub(crate) JobName, pub(crate) JobOutcome);

impl OpenLabels for JobRun {
    const LABELS: &'static [LabelDescription] = &[DUTY, JobOutcome::LABEL];

    fn labels(self) -> Vec<Label> {
        let Self(JobName(name), outcome) = self;
        vec![Label::from_static_parts("duty", name), outcome.label()]
    }
}
