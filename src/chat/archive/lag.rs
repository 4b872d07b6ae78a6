//! Metrics of the archive backlog over all partitions.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::backend::broker::Partition;
use crate::backend::broker::queue::Backlog;
use crate::chat::metrics::ArchiveMetrics;

/// Backlogs of all partitions, shared by the archivers of a node.
pub(super) struct Lag {
    pub(super) of_all: Arc<Mutex<Vec<Backlog>>>,
    pub(super) looked: Option<Instant>,
    /// Oldest entry at the last reading, and since when this node has seen it.
    pub(super) head: Option<(String, Instant)>,
    pub(super) metrics: Arc<ArchiveMetrics>,
}

impl Lag {
    pub(super) fn show(&mut self, partition: Partition, mut backlog: Backlog) {
        // Also measured by this node's clock: if the broker's clock was set back, its timestamps are in the future.
        self.head = backlog.head.take().map(|head| match self.head.take() {
            Some((known, since)) if known == head => (known, since),
            _ => (head, Instant::now()),
        });
        if let Some((_, since)) = &self.head {
            backlog.oldest = backlog.oldest.max(since.elapsed());
        }
        let mut of_all = self.of_all.lock();
        if let Some(of_one) = of_all.get_mut(usize::from(partition.0)) {
            *of_one = backlog;
        }
        let messages: u64 = of_all.iter().map(|of_one| of_one.messages).sum();
        let oldest = of_all.iter().map(|of_one| of_one.oldest).max().unwrap_or_default();
        self.metrics.lag.set(messages as f64);
        self.metrics.lag_age.set(oldest.as_secs_f64());
    }
}
