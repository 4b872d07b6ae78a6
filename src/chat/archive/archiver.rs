//! Archiver task of one partition: renews its lease, reads its queue and writes batches.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::ArchiveError;
use super::lag::{Backlogs, Lag};
use crate::backend::Unavailable;
use crate::backend::broker::Partition;
use crate::backend::broker::queue::{ArchiveLease, ArchiveQueue, Idle, QueueEntry};
use crate::backend::shutdown::Shutdown;
use crate::chat::metrics::ArchiveMetrics;
use crate::store::{Store, StoreError};

/// Maximum number of messages per transaction. Each transaction also updates the rows of the messages' rooms, so small
/// transactions cost more per message. At 500 messages per transaction, a saturated cluster spends a third more
/// database time per message.
const BATCH: usize = 2_000;

/// Maximum size of the frames in one transaction, in bytes: half of the smallest common `max_allowed_packet` (1 MiB).
const BATCH_BYTES: usize = 512 * 1024;

/// Number of entries requested by the first read of a queue. Later reads adapt the number to the size of the messages.
const FIRST_READ: usize = 256;

/// Maximum age of the cached limit on the size of a statement.
const PACKET_INTERVAL: Duration = Duration::from_secs(60);

/// Interval between renewals of a lease, and between attempts to acquire one: a third of the duration of a lease.
const LEASE_INTERVAL: Duration = Duration::from_secs(5);

/// Delay before a message is archived, during which later messages join its transaction. At 1,000 messages per second,
/// the delay reduces the database load by two thirds.
const GATHER: Duration = Duration::from_millis(100);

/// Interval between reads of a queue while no new message wakes the archiver.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// Delay between attempts while the database or the broker is unavailable.
const RETRY: Duration = Duration::from_secs(1);

/// Maximum duration of archiving the remaining entries when the node stops.
const LAST_ROUND: Duration = Duration::from_secs(5);

/// Interval between removals of idle rooms from the broker, and the idle time after which a room is removed. The short
/// values apply while the broker is low on memory.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
const ROOM_IDLE: Duration = Duration::from_secs(3_600);
const SHORT_SWEEP_INTERVAL: Duration = Duration::from_secs(5);
const SHORT_ROOM_IDLE: Duration = Duration::from_secs(30);

/// Interval between reads of the backlog. Each read makes three inexpensive calls to the broker per partition.
const LAG_INTERVAL: Duration = Duration::from_secs(5);

/// Archiver of one partition.
pub(super) struct Archiver {
    pub(super) partition: Partition,
    pub(super) queue: Arc<dyn ArchiveQueue>,
    pub(super) store: Store,
    wakers: Arc<[Notify]>,
    lease: Option<(ArchiveLease, Instant)>,
    /// Maximum size of one statement in bytes, and the instant at which it was read.
    max_statement: Option<(usize, Instant)>,
    /// Number of entries that the next read requests. They fit approximately into one transaction.
    count: usize,
    swept: Instant,
    is_memory_short: bool,
    lag: Lag,
    pub(super) metrics: Arc<ArchiveMetrics>,
}

impl Archiver {
    pub(super) fn new(
        partition: Partition,
        queue: Arc<dyn ArchiveQueue>,
        store: Store,
        wakers: Arc<[Notify]>,
        backlogs: Backlogs,
        metrics: Arc<ArchiveMetrics>,
    ) -> Self {
        Self {
            partition,
            queue,
            store,
            wakers,
            lease: None,
            max_statement: None,
            count: FIRST_READ,
            swept: Instant::now(),
            is_memory_short: false,
            lag: Lag::new(backlogs),
            metrics,
        }
    }

    pub(super) async fn run(mut self, shutdown: Shutdown) {
        let wakers = self.wakers.clone();
        let Some(waker) = wakers.get(usize::from(self.partition.0)) else { return };
        let mut is_failing = false;
        while !shutdown.is_stopping() {
            let worked = self.work().await;
            let was_failing = std::mem::replace(&mut is_failing, worked.is_err());
            self.export_backlog().await;
            let pause = match worked {
                Ok(true) => IDLE_INTERVAL,
                Ok(false) => LEASE_INTERVAL,
                Err(error) => {
                    self.failed(&error, was_failing);
                    RETRY
                }
            };
            tokio::select! {
                () = waker.notified(), if self.lease.is_some() && pause == IDLE_INTERVAL => tokio::time::sleep(GATHER).await,
                () = tokio::time::sleep(pause) => {}
                () = shutdown.stopping() => {}
            }
        }
        self.finish().await;
    }

    /// Records a failed round. Logs only the first of consecutive failures.
    fn failed(&mut self, error: &ArchiveError, was_failing: bool) {
        self.metrics.failures.increment(1);
        self.max_statement = None;
        // The batch may have been too large: a proxy closes the connection if a statement exceeds its limit. The next
        // read therefore requests fewer entries.
        self.count = (self.count / 4).max(1);
        if !was_failing {
            tracing::warn!(%error, partition = self.partition.0, "failed to archive batch, retrying");
        }
    }

    /// Archives the remaining entries of the queue and releases the lease.
    async fn finish(&mut self) {
        // This may be the last node of the cluster. Entries that remain in the queue would then not be archived until a
        // node starts. If another node holds the lease, the following call archives nothing.
        match tokio::time::timeout(LAST_ROUND, self.work()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, partition = self.partition.0, "failed to archive remaining messages before shutdown")
            }
            Err(_) => {
                tracing::warn!(partition = self.partition.0, "timed out archiving remaining messages before shutdown")
            }
        }
        if let Some((lease, _)) = self.lease.take()
            && let Err(error) = self.queue.release(self.partition, &lease).await
        {
            tracing::debug!(%error, partition = self.partition.0, "failed to release partition lease");
        }
    }

    /// Archives the entries of the queue. Returns `false` if this node does not hold the lease.
    async fn work(&mut self) -> Result<bool, ArchiveError> {
        match self.empty_queue().await {
            Err(ArchiveError::LeaseLost) => {
                self.lease = None;
                Ok(false)
            }
            worked => worked,
        }
    }

    async fn empty_queue(&mut self) -> Result<bool, ArchiveError> {
        loop {
            let Some(lease) = self.hold_lease().await? else { return Ok(false) };
            self.sweep().await?;
            let most = self.statement_bytes().await?;
            let mut entries = self.queue.read(self.partition, self.count).await?;
            let read = entries.len();
            // The frames may use at most a third of the statement size: a statement that inserts the webhook events of
            // the batch may be three times as long as the frames.
            truncate(&mut entries, BATCH_BYTES.min(most / 3));
            let Some(first) = entries.first() else { return Ok(true) };
            if first.frame.len() > most {
                self.dead_letter(&lease, first, "larger than max_allowed_packet").await?;
                continue;
            }
            let is_full = read == self.count || entries.len() < read;
            self.count = next_count(&entries, self.count);
            self.write_measured(&lease, entries).await?;
            if !is_full {
                return Ok(true);
            }
            self.export_backlog().await;
        }
    }

    async fn write_measured(&self, lease: &ArchiveLease, entries: Vec<QueueEntry>) -> Result<(), ArchiveError> {
        let (began, rows) = (Instant::now(), entries.len());
        self.write(lease, entries).await?;
        self.metrics.batch.record(rows as f64);
        self.metrics.duration.record(began.elapsed().as_secs_f64());
        self.metrics.archived.increment(rows as u64);
        Ok(())
    }

    /// Exports the backlog, at most once per [`LAG_INTERVAL`]. Every node exports it, even without the lease: if no
    /// node archives a queue, its backlog must still be visible.
    async fn export_backlog(&mut self) {
        if self.lag.read_at.is_some_and(|read_at| read_at.elapsed() < LAG_INTERVAL) {
            return;
        }
        self.lag.read_at = Some(Instant::now());
        match self.queue.backlog(self.partition).await {
            Ok(backlog) => self.lag.export(self.partition, backlog),
            Err(error) => tracing::debug!(%error, partition = self.partition.0, "failed to read archive backlog"),
        }
    }

    /// Returns the maximum size of one statement in bytes. The value is read again if it is older than
    /// [`PACKET_INTERVAL`] or if a round has failed since.
    async fn statement_bytes(&mut self) -> Result<usize, StoreError> {
        match self.max_statement {
            Some((bytes, read)) if read.elapsed() < PACKET_INTERVAL => Ok(bytes),
            _ => {
                let bytes = self.store.messages().max_statement_bytes().await?;
                self.max_statement = Some((bytes, Instant::now()));
                Ok(bytes)
            }
        }
    }

    async fn hold_lease(&mut self) -> Result<Option<ArchiveLease>, Unavailable> {
        if let Some((lease, renewed)) = &self.lease
            && renewed.elapsed() < LEASE_INTERVAL
        {
            return Ok(Some(lease.clone()));
        }
        let asked = Instant::now();
        self.lease = self.queue.lease(self.partition).await?.map(|lease| (lease, asked));
        Ok(self.lease.as_ref().map(|(lease, _)| lease.clone()))
    }

    async fn sweep(&mut self) -> Result<(), Unavailable> {
        let interval = if self.is_memory_short { SHORT_SWEEP_INTERVAL } else { SWEEP_INTERVAL };
        if self.swept.elapsed() < interval {
            return Ok(());
        }
        self.swept = Instant::now();
        let idle = Idle { usual: ROOM_IDLE, short_of_memory: SHORT_ROOM_IDLE };
        let swept = self.queue.remove_idle(self.partition, idle).await?;
        if swept.removed > 0 {
            tracing::debug!(removed = swept.removed, partition = self.partition.0, "removed idle rooms from redis");
        }
        if swept.is_memory_short && !self.is_memory_short {
            tracing::warn!(partition = self.partition.0, "redis memory low, removing idle rooms early");
        } else if self.is_memory_short && !swept.is_memory_short {
            tracing::info!(partition = self.partition.0, "redis memory no longer low");
        }
        self.is_memory_short = swept.is_memory_short;
        Ok(())
    }
}

/// Truncates `entries` so that their frames have at most `most` bytes in total. Keeps at least one entry.
fn truncate(entries: &mut Vec<QueueEntry>, most: usize) {
    let mut bytes = 0;
    let fits = |entry: &&QueueEntry| {
        bytes += entry.frame.len();
        bytes <= most
    };
    let fitting = entries.iter().take_while(fits).count().max(1);
    entries.truncate(fitting);
}

/// Returns the number of entries that the next read requests. `count` is the number that the last read requested.
/// `batch` contains the entries of that read that are being archived.
fn next_count(batch: &[QueueEntry], count: usize) -> usize {
    let bytes: usize = batch.iter().map(|entry| entry.frame.len()).sum();
    let mean = (bytes / batch.len().max(1)).max(1);
    (BATCH_BYTES / mean + 1).min(count * 4).clamp(1, BATCH)
}
