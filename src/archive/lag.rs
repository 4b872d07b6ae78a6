//! The archive backlog of all partitions, as metrics.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::broker::Partition;
use crate::broker::queue::Backlog;

/// The backlogs of all partitions.
pub(super) struct Lag {
    pub(super) of_all: Arc<Mutex<Vec<Backlog>>>,
    pub(super) looked: Option<Instant>,
    /// The oldest entry at the last reading, and since when this node knows it.
    pub(super) head: Option<(String, Instant)>,
}

impl Lag {
    pub(super) fn show(&mut self, partition: Partition, mut backlog: Backlog) {
        // By this node's own clock as well: after the broker's clock was put back, its stamps are in the future.
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
        metrics::gauge!(crate::metric::ARCHIVE_LAG).set(messages as f64);
        metrics::gauge!(crate::metric::ARCHIVE_LAG_SECONDS).set(oldest.as_secs_f64());
    }
}
