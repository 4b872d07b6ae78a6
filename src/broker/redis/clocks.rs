//! What the servers' clocks show. Each partition has its own: in a Cluster another server may have it, and after a failover
//! another one does.

use std::time::Instant;

use parking_lot::Mutex;

use super::PARTITIONS;
use crate::broker::Partition;

/// A server's clock against ours, in ms, as of the last answer that told it; of each partition.
#[derive(Debug, Default)]
pub(super) struct Clocks([Mutex<Option<(i64, Instant)>>; PARTITIONS as usize]);

impl Clocks {
    /// Notes what the clock shows.
    pub(super) fn set(&self, partition: Partition, now: i64) {
        *self.of(partition).lock() = Some((now, Instant::now()));
    }

    /// What it shows now; `None` where it has to be asked for.
    pub(super) fn now(&self, partition: Partition) -> Option<i64> {
        let (then, at) = (*self.of(partition).lock())?;
        Some(then + at.elapsed().as_millis() as i64)
    }

    /// It may be another one by now.
    pub(super) fn forget(&self, partition: Partition) {
        *self.of(partition).lock() = None;
    }

    fn of(&self, partition: Partition) -> &Mutex<Option<(i64, Instant)>> {
        &self.0[usize::from(partition.0 % PARTITIONS)]
    }
}
