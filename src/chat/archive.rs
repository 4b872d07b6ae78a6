//! Archiver: writes accepted messages from the broker's queue to the database in batches, one archiver per partition.
//!
//! Every node competes for the lease of every partition. The lease holder reads the queue from its head, commits the
//! entries to the database, and only then removes them from the queue. If an archiver crashes after the commit, the
//! next archiver writes the same entries again. The second write changes nothing, because the sequence number is part
//! of the primary key.
//!
//! **Invariant:** an entry is removed from the queue only after it was committed to the database, its room was deleted,
//! or it was dead-lettered. A room is looked up by id **and** name: after the database was restored from a backup, the
//! id may belong to another room.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::backend::Unavailable;
use crate::backend::broker::Partition;
use crate::backend::broker::queue::ArchiveQueue;
use crate::backend::shutdown::Shutdown;
use crate::chat::metrics::ArchiveMetrics;
use crate::domain::RoomName;
use crate::store::{Store, StoreError};

mod archiver;
mod batch;
mod lag;
mod unowned;

use archiver::Archiver;
pub(crate) use batch::rooms_of;
use lag::Backlogs;

/// Handle that wakes the archivers.
#[derive(Clone, Debug)]
pub struct Archive {
    wakers: Arc<[Notify]>,
}

impl Archive {
    /// Starts one archiver for each of the `partitions`. When background work is shut down, the archivers stop and
    /// release their leases.
    pub fn start(queue: &Arc<dyn ArchiveQueue>, partitions: u16, store: &Store, shutdown: &Shutdown) -> Self {
        let wakers: Arc<[Notify]> = (0..partitions).map(|_| Notify::new()).collect();
        let metrics = Arc::<ArchiveMetrics>::default();
        let backlogs = Backlogs::new(partitions, metrics.clone());
        for partition in (0..partitions).map(Partition) {
            let archiver = Archiver::new(
                partition,
                queue.clone(),
                store.clone(),
                wakers.clone(),
                backlogs.clone(),
                metrics.clone(),
            );
            shutdown.spawn(archiver.run(shutdown.clone()));
        }
        Self { wakers }
    }

    /// Wakes the archiver of the partition of `room`.
    pub fn wake(&self, room: RoomName) {
        let partition = Partition::of(room, self.wakers.len() as u16);
        if let Some(waker) = self.wakers.get(usize::from(partition.0)) {
            waker.notify_one();
        }
    }
}

/// Reason why an archiver could not archive its queue.
#[derive(Debug, thiserror::Error)]
enum ArchiveError {
    #[error(transparent)]
    Queue(#[from] Unavailable),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This node no longer holds the lease of the partition. Another node may hold it.
    #[error("the partition lease was lost")]
    LeaseLost,
}

#[cfg(test)]
mod tests;
