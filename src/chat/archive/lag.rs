//! Exports the metrics of the archive backlog, aggregated over all partitions.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::backend::broker::Partition;
use crate::backend::broker::queue::Backlog;
use crate::chat::metrics::ArchiveMetrics;

/// Backlogs of all partitions, shared by the archivers of a node.
#[derive(Clone)]
pub(super) struct Backlogs {
    of_all: Arc<Mutex<Vec<Backlog>>>,
    metrics: Arc<ArchiveMetrics>,
}

impl Backlogs {
    pub(super) fn new(partitions: u16, metrics: Arc<ArchiveMetrics>) -> Self {
        let of_all = Arc::new(Mutex::new(vec![Backlog::default(); usize::from(partitions)]));
        Self { of_all, metrics }
    }
}

/// Tracks the backlog of one partition.
pub(super) struct Lag {
    backlogs: Backlogs,
    pub(super) read_at: Option<Instant>,
    /// Oldest entry at the last read, and the instant at which this node first read it.
    head: Option<(String, Instant)>,
}

impl Lag {
    pub(super) fn new(backlogs: Backlogs) -> Self {
        Self { backlogs, read_at: None, head: None }
    }

    /// Updates the backlog of one partition and exports the backlog of all partitions.
    pub(super) fn export(&mut self, partition: Partition, mut backlog: Backlog) {
        // This node also measures the age with its own clock, because the timestamps of the broker are in the future
        // after its clock was set back.
        self.head = backlog.head.take().map(|head| match self.head.take() {
            Some((known, since)) if known == head => (known, since),
            _ => (head, Instant::now()),
        });
        if let Some((_, since)) = &self.head {
            backlog.oldest = backlog.oldest.max(since.elapsed());
        }
        let mut of_all = self.backlogs.of_all.lock();
        if let Some(of_one) = of_all.get_mut(usize::from(partition.0)) {
            *of_one = backlog;
        }
        let messages: u64 = of_all.iter().map(|of_one| of_one.messages).sum();
        let oldest = of_all.iter().map(|of_one| of_one.oldest).max().unwrap_or_default();
        let fullest = of_all.iter().map(|of_one| of_one.share).fold(0.0, f64::max);
        self.backlogs.metrics.lag.set(messages as f64);
        self.backlogs.metrics.fullest.set(fullest);
        self.backlogs.metrics.lag_age.set(oldest.as_secs_f64());
    }
}
