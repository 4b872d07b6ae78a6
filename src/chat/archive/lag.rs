//! Metrics of the archive backlog over all partitions.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::backend::broker::Partition;
use crate::backend::broker::queue::Backlog;

/// Backlogs of all partitions, shared by the archivers of a node.
#[derive(Clone)]
pub(super) struct Backlogs(Arc<Mutex<Vec<Backlog>>>);

impl Backlogs {
    pub(super) fn of(partitions: u16) -> Self {
        Self(Arc::new(Mutex::new(vec![Backlog::default(); usize::from(partitions)])))
    }
}

/// Backlog of one partition.
pub(super) struct Lag {
    backlogs: Backlogs,
    pub(super) read_at: Option<Instant>,
    /// Oldest entry at the last reading, and since when this node has seen it.
    head: Option<(String, Instant)>,
}

impl Lag {
    pub(super) fn new(backlogs: Backlogs) -> Self {
        Self { backlogs, read_at: None, head: None }
    }

    /// Exports the backlog of all partitions after that of one was read.
    pub(super) fn export(&mut self, partition: Partition, mut backlog: Backlog) {
        // Also measured by this node's clock: if the broker's clock was set back, its timestamps are in the future.
        self.head = backlog.head.take().map(|head| match self.head.take() {
            Some((known, since)) if known == head => (known, since),
            _ => (head, Instant::now()),
        });
        if let Some((_, since)) = &self.head {
            backlog.oldest = backlog.oldest.max(since.elapsed());
        }
        let mut of_all = self.backlogs.0.lock();
        if let Some(of_one) = of_all.get_mut(usize::from(partition.0)) {
            *of_one = backlog;
        }
        let messages: u64 = of_all.iter().map(|of_one| of_one.messages).sum();
        let oldest = of_all.iter().map(|of_one| of_one.oldest).max().unwrap_or_default();
        metrics::gauge!(crate::domain::metric::ARCHIVE_LAG).set(messages as f64);
        metrics::gauge!(crate::domain::metric::ARCHIVE_LAG_SECONDS).set(oldest.as_secs_f64());
    }
}
