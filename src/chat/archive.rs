//! Archiver: writes accepted messages from the broker's queue to SQL in batches, one archiver per partition.
//!
//! Every node competes for the lease of every partition. The lease holder reads the queue from its head, commits to
//! SQL, and only then removes the entries. A batch that was interrupted in between is written again without effect,
//! because the sequence number is part of the primary key.
//!
//! **Invariant:** an entry leaves the queue only if SQL has it, if its room was deleted, or as a dead letter. A row is
//! matched by id **and** name: after a restore of SQL, an id may belong to another room.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backend::broker::queue::{ArchiveLease, ArchiveQueue, ArchivedMark, Backlog, Idle, Lost, QueueEntry};
use crate::backend::broker::{Partition, Unavailable};
use crate::chat::metrics::ArchiveMetrics;
use crate::domain::trace::Span;
use crate::domain::{ChatroomId, Message, RoomKey, RoomName, RoomState, Seq};
use crate::protocol::chat::StoredFrame;
use crate::store::{Archived, BatchRoom, Store, StoreError};

mod lag;

use lag::Lag;

/// Maximum number of rows per transaction. Each transaction also updates the rooms of its rows: with 500 rows, a
/// saturated cluster spends a third more SQL time per message.
const BATCH: usize = 2_000;

/// Maximum size of the frames in one transaction, in bytes: half of the smallest usual `max_allowed_packet`.
const BATCH_BYTES: usize = 512 * 1024;

/// Number of entries of the first read of a queue. Later reads adapt to the size of its messages.
const FIRST_READ: usize = 256;

/// Interval between reads of the database's limit per statement.
const PACKET_INTERVAL: Duration = Duration::from_secs(60);

/// Interval between renewals of, and attempts to acquire, a lease: a third of its duration.
const LEASE_INTERVAL: Duration = Duration::from_secs(5);

/// How long a message waits for others to share its transaction. At 1,000 messages per second this saves two thirds of
/// the SQL cost.
const GATHER: Duration = Duration::from_millis(100);

/// Interval between reads of a queue without a notification.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// Delay between attempts while the database or the broker is unavailable.
const RETRY: Duration = Duration::from_secs(1);

/// Time limit for archiving the remaining entries when the node stops.
const LAST_ROUND: Duration = Duration::from_secs(5);

/// Interval between removals of unused rooms from the broker, and how long a room must have been unused. The shorter
/// values apply while the broker is short of memory.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
const ROOM_IDLE: Duration = Duration::from_secs(3_600);
const SHORT_SWEEP_INTERVAL: Duration = Duration::from_secs(5);
const SHORT_ROOM_IDLE: Duration = Duration::from_secs(30);

/// Interval between reads of the backlog: two cheap calls per partition.
const LAG_INTERVAL: Duration = Duration::from_secs(5);

/// Reason of dead letters whose sequence number belongs to another message in SQL.
const CONFLICT: &str = "another message has its number";

/// Reason of dead letters whose room has no row with its id and name.
const LOST: &str = "sql has no such room";

/// State version for rooms without a row; higher than any version in SQL.
const GONE: u64 = u32::MAX as u64;

/// Handle that wakes the archivers.
#[derive(Clone, Debug)]
pub struct Archive {
    wakers: Arc<[Notify]>,
}

impl Archive {
    /// Starts an archiver for each of `partitions`. After `stop` is cancelled, the archivers end and release their
    /// leases.
    pub fn start(
        queue: &Arc<dyn ArchiveQueue>,
        partitions: u16,
        store: &Store,
        tracker: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let wakers: Arc<[Notify]> = (0..partitions).map(|_| Notify::new()).collect();
        let metrics = Arc::<ArchiveMetrics>::default();
        let lags = Arc::new(Mutex::new(vec![Backlog::default(); usize::from(partitions)]));
        for partition in (0..partitions).map(Partition) {
            let archiver = Archiver {
                partition,
                queue: queue.clone(),
                store: store.clone(),
                wakers: wakers.clone(),
                lease: None,
                swept: Instant::now(),
                is_memory_short: false,
                max_statement: None,
                count: FIRST_READ,
                lag: Lag { of_all: lags.clone(), looked: None, head: None, metrics: metrics.clone() },
                metrics: metrics.clone(),
            };
            tracker.spawn(archiver.run(stop.clone()));
        }
        Self { wakers }
    }

    /// Wakes the archiver of this room's partition.
    pub fn wake(&self, room: RoomName) {
        let partition = Partition::of(room, self.wakers.len() as u16);
        if let Some(waker) = self.wakers.get(usize::from(partition.0)) {
            waker.notify_one();
        }
    }
}

/// Reason why a batch was not written.
#[derive(Debug, thiserror::Error)]
enum ArchiveError {
    #[error(transparent)]
    Queue(#[from] Unavailable),
    #[error(transparent)]
    Store(#[from] StoreError),
}

struct Archiver {
    partition: Partition,
    queue: Arc<dyn ArchiveQueue>,
    store: Store,
    wakers: Arc<[Notify]>,
    lease: Option<(ArchiveLease, Instant)>,
    /// Maximum size of one statement in bytes, and when it was read.
    max_statement: Option<(usize, Instant)>,
    /// Number of entries of the next read: about as many as fit into a transaction.
    count: usize,
    swept: Instant,
    is_memory_short: bool,
    lag: Lag,
    metrics: Arc<ArchiveMetrics>,
}

impl Archiver {
    async fn run(mut self, stop: CancellationToken) {
        let wakers = self.wakers.clone();
        let Some(waker) = wakers.get(usize::from(self.partition.0)) else { return };
        let mut waits = false;
        while !stop.is_cancelled() {
            let worked = self.work().await;
            let waited = std::mem::replace(&mut waits, worked.is_err());
            self.look_at_backlog().await;
            let pause = match worked {
                Ok(true) => IDLE_INTERVAL,
                Ok(false) => LEASE_INTERVAL,
                Err(error) => {
                    self.metrics.failures.increment(1);
                    self.max_statement = None;
                    // The size of the batch may be the cause: a proxy's limit closes the connection as well.
                    self.count = (self.count / 4).max(1);
                    if !waited {
                        tracing::warn!(%error, partition = self.partition.0, "failed to archive batch, retrying");
                    }
                    RETRY
                }
            };
            tokio::select! {
                () = waker.notified(), if self.lease.is_some() && pause == IDLE_INTERVAL => tokio::time::sleep(GATHER).await,
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
        // The last node that stops must leave no entries in the queue. Another node may hold the lease by now.
        match tokio::time::timeout(LAST_ROUND, self.work()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, partition = self.partition.0, "failed to archive before shutdown"),
            Err(_) => tracing::warn!(partition = self.partition.0, "timed out archiving before shutdown"),
        }
        if let Some((lease, _)) = self.lease.take()
            && let Err(error) = self.queue.release(self.partition, &lease).await
        {
            tracing::debug!(%error, partition = self.partition.0, "failed to release partition lease, it expires");
        }
    }

    /// Archives all entries of the queue. Returns `false` if another node holds the lease.
    async fn work(&mut self) -> Result<bool, ArchiveError> {
        loop {
            let Some(lease) = self.hold_lease().await? else { return Ok(false) };
            self.sweep().await?;
            let most = self.statement_bytes().await?;
            let mut entries = self.queue.read(self.partition, self.count).await?;
            let read = entries.len();
            // Events for webhooks are up to three times as long as their messages.
            bound(&mut entries, BATCH_BYTES.min(most / 3));
            let Some(first) = entries.first() else { return Ok(true) };
            if first.frame.len() > most {
                if !self.dead_letter(&lease, first, "larger than max_allowed_packet").await? {
                    self.lease = None;
                    return Ok(false);
                }
                continue;
            }
            let full = read == self.count || entries.len() < read;
            self.count = next_count(&entries, self.count);
            let began = Instant::now();
            let rows = entries.len();
            if !self.write(&lease, entries).await? {
                self.lease = None;
                return Ok(false);
            }
            self.metrics.batch.record(rows as f64);
            self.metrics.duration.record(began.elapsed().as_secs_f64());
            self.metrics.archived.increment(rows as u64);
            if !full {
                return Ok(true);
            }
            self.look_at_backlog().await;
        }
    }

    /// Exports the backlog, at most once per [`LAG_INTERVAL`]. Every node does this, with or without the lease, so that
    /// a queue that no node archives does not appear empty.
    async fn look_at_backlog(&mut self) {
        if self.lag.looked.is_some_and(|looked| looked.elapsed() < LAG_INTERVAL) {
            return;
        }
        self.lag.looked = Some(Instant::now());
        match self.queue.backlog(self.partition).await {
            Ok(backlog) => self.lag.show(self.partition, backlog),
            Err(error) => tracing::debug!(%error, partition = self.partition.0, "failed to read archive backlog"),
        }
    }

    /// Returns the maximum size in bytes of one statement, which is read again every [`PACKET_INTERVAL`].
    async fn statement_bytes(&mut self) -> Result<usize, StoreError> {
        match self.max_statement {
            Some((bytes, read)) if read.elapsed() < PACKET_INTERVAL => Ok(bytes),
            _ => {
                let bytes = self.store.max_statement_bytes().await?;
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

    /// Archives one batch. Returns `false` if the lease is lost.
    async fn write(&self, lease: &ArchiveLease, entries: Vec<QueueEntry>) -> Result<bool, ArchiveError> {
        let Some(last) = entries.last().map(|entry| entry.position.clone()) else { return Ok(true) };
        let mut bytes: usize = entries.iter().map(|entry| entry.frame.len()).sum();
        let mut batch: Vec<(QueueEntry, Message)> = Vec::with_capacity(entries.len());
        for entry in entries {
            let stored = serde_json::from_slice::<StoredFrame<'_>>(&entry.frame).ok();
            match stored.and_then(|stored| stored.into_message(entry.chatroom, entry.accepted_at)) {
                Some(message) => batch.push((entry, message)),
                None if self.dead_letter(lease, &entry, "not a message").await? => bytes -= entry.frame.len(),
                None => return Ok(false),
            }
        }
        let mut strangers = self.split_strangers(&mut batch).await?;
        let spans: Vec<Span> = batch.iter().filter_map(|(entry, _)| entry.trace?.child("archive.commit")).collect();
        let committed = self.commit(&batch).await;
        for mut span in spans {
            span.note("pintalk.batch", batch.len() as i64);
            if committed.is_err() {
                span.fail("SQL did not take the batch");
            }
        }
        let archived = match committed {
            Err(StoreError::Data(_)) => match self.commit_halves(lease, &batch).await? {
                Some((archived, refused)) => {
                    bytes -= refused;
                    archived
                }
                None => return Ok(false),
            },
            archived => archived?,
        };
        for (entry, message) in &batch {
            if archived.conflicts.contains(&(message.chatroom, message.seq)) {
                if !self.dead_letter(lease, entry, CONFLICT).await? {
                    return Ok(false);
                }
                bytes -= entry.frame.len();
            }
        }
        let rowless: HashSet<ChatroomId> =
            archived.rooms.iter().filter(|room| !room.exists).map(|room| room.chatroom).collect();
        strangers.extend(
            batch.iter().filter(|(entry, _)| rowless.contains(&entry.chatroom)).map(|(entry, _)| entry.clone()),
        );
        let deleted = match self.settle_rowless(lease, &strangers).await? {
            Some((deleted, refused)) => {
                bytes -= refused;
                deleted
            }
            None => return Ok(false),
        };
        Ok(self.queue.finish(self.partition, lease, &last, bytes, &marks(&batch, &archived, &deleted)).await?)
    }

    /// Where entries of several rooms share a chatroom id, removes those of the rooms that do not own the row from the
    /// batch. Returns the removed entries.
    async fn split_strangers(&self, batch: &mut Vec<(QueueEntry, Message)>) -> Result<Vec<QueueEntry>, StoreError> {
        let mut names: HashMap<ChatroomId, RoomName> = HashMap::new();
        let mut shared: HashSet<ChatroomId> = HashSet::new();
        for (entry, _) in &*batch {
            if *names.entry(entry.chatroom).or_insert(entry.room) != entry.room {
                shared.insert(entry.chatroom);
            }
        }
        let mut strangers = Vec::new();
        for chatroom in shared {
            let owner = self.store.room(chatroom).await?.map(|room| room.name);
            batch.retain(|(entry, _)| {
                let stays = entry.chatroom != chatroom || Some(entry.room) == owner;
                if !stays {
                    strangers.push(entry.clone());
                }
                stays
            });
        }
        Ok(strangers)
    }

    /// Decides about entries whose room has no row with its name. If SQL or the broker records the deletion of the
    /// room, its entries are dropped. Otherwise SQL has lost the room, and all its messages in the broker become dead
    /// letters. Returns the deleted rooms, and the bytes of entries that became dead letters one by one; `None` if the
    /// lease is lost.
    async fn settle_rowless(
        &self,
        lease: &ArchiveLease,
        entries: &[QueueEntry],
    ) -> Result<Option<(HashSet<RoomName>, usize)>, ArchiveError> {
        let (mut deleted, mut refused) = (HashSet::new(), 0);
        let mut settled: HashMap<(RoomName, ChatroomId), bool> = HashMap::new();
        for entry in entries {
            let key = RoomKey { name: entry.room, chatroom: entry.chatroom };
            let is_covered = match settled.get(&(entry.room, entry.chatroom)) {
                Some(is_covered) => *is_covered,
                None => {
                    let is_covered = self.settle_room(key, &mut deleted).await?;
                    settled.insert((entry.room, entry.chatroom), is_covered);
                    is_covered
                }
            };
            if !is_covered {
                if !self.dead_letter(lease, entry, LOST).await? {
                    return Ok(None);
                }
                refused += entry.frame.len();
            }
        }
        Ok(Some((deleted, refused)))
    }

    /// Returns whether the entries of a room without a row need no further action: the room was deleted, or all its
    /// messages are dead letters.
    async fn settle_room(&self, room: RoomKey, deleted: &mut HashSet<RoomName>) -> Result<bool, ArchiveError> {
        // SQL is read first, because an event is removed only after the broker has the tombstone.
        if self.store.is_being_deleted(room.name).await? {
            deleted.insert(room.name);
            return Ok(true);
        }
        let has_other_row = self.store.room_by_name(room.name).await?.is_some();
        match self.queue.lose_room(room.name, room.chatroom, LOST, has_other_row).await? {
            Lost::Deleted => Ok(true),
            Lost::Now(messages) if messages > 0 => {
                self.metrics.dead_letters.increment(messages);
                tracing::error!(room = %room.name, chatroom = room.chatroom.0, messages, "sql has lost a room, dead-lettered its messages");
                Ok(true)
            }
            Lost::Now(_) | Lost::Other => Ok(false),
        }
    }

    async fn commit(&self, batch: &[(QueueEntry, Message)]) -> Result<Archived, StoreError> {
        let messages: Vec<Message> = batch.iter().map(|(_, message)| message.clone()).collect();
        let rooms = rooms_of(batch.iter().map(|(entry, _)| entry));
        let unattended: Vec<(ChatroomId, Seq)> = batch
            .iter()
            .filter(|(entry, _)| entry.unattended)
            .map(|(_, message)| (message.chatroom, message.seq))
            .collect();
        self.store.archive(&messages, &rooms, &unattended).await
    }

    /// Writes a batch that SQL rejected, in halves down to the rows that cause the error. These become dead letters,
    /// and their bytes are returned as well. Returns `None` if the lease is lost.
    async fn commit_halves(
        &self,
        lease: &ArchiveLease,
        batch: &[(QueueEntry, Message)],
    ) -> Result<Option<(Archived, usize)>, ArchiveError> {
        let (mut all, mut refused) = (Archived::default(), 0);
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            match self.commit(part).await {
                Ok(written) => {
                    all.rooms.retain(|room| written.rooms.iter().all(|new| new.chatroom != room.chatroom));
                    all.rooms.extend(written.rooms);
                    all.conflicts.extend(written.conflicts);
                }
                // Halves are written in order, so that the state of a room is not replaced by an older one.
                Err(StoreError::Data(_)) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(StoreError::Data(why)) => {
                    for (entry, _) in part {
                        if !self.dead_letter(lease, entry, &why).await? {
                            return Ok(None);
                        }
                        refused += entry.frame.len();
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some((all, refused)))
    }

    async fn dead_letter(&self, lease: &ArchiveLease, entry: &QueueEntry, why: &str) -> Result<bool, Unavailable> {
        self.metrics.dead_letters.increment(1);
        tracing::error!(room = %entry.room, position = entry.position, why, "dead-lettered a message");
        self.queue.dead_letter(self.partition, lease, &entry.position, why, why == CONFLICT).await
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
            tracing::warn!(partition = self.partition.0, "redis memory short, removing idle rooms early");
        } else if self.is_memory_short && !swept.is_memory_short {
            tracing::info!(partition = self.partition.0, "redis memory no longer short");
        }
        self.is_memory_short = swept.is_memory_short;
        Ok(())
    }
}

/// Truncates `entries` to the first ones whose frames have at most `most` bytes in total. Keeps at least one.
fn bound(entries: &mut Vec<QueueEntry>, most: usize) {
    let mut bytes = 0;
    let fits = |entry: &&QueueEntry| {
        bytes += entry.frame.len();
        bytes <= most
    };
    let fitting = entries.iter().take_while(fits).count().max(1);
    entries.truncate(fitting);
}

/// Number of entries to read next. `batch` is the part of a read of `count` entries that is being archived.
fn next_count(batch: &[QueueEntry], count: usize) -> usize {
    let bytes: usize = batch.iter().map(|entry| entry.frame.len()).sum();
    let mean = (bytes / batch.len().max(1)).max(1);
    (BATCH_BYTES / mean + 1).min(count * 4).clamp(1, BATCH)
}

/// Returns each room of a batch once, with the epoch of its newest entry.
pub(crate) fn rooms_of<'a>(entries: impl Iterator<Item = &'a QueueEntry>) -> Vec<BatchRoom> {
    let of_entry = |entry: &QueueEntry| {
        let key = RoomKey { name: entry.room, chatroom: entry.chatroom };
        (entry.chatroom, BatchRoom { key, life: entry.life.clone() })
    };
    let rooms: HashMap<ChatroomId, BatchRoom> = entries.map(of_entry).collect();
    rooms.into_values().collect()
}

/// Returns how far each room of a batch is archived, and its state in SQL.
fn marks(batch: &[(QueueEntry, Message)], archived: &Archived, deleted: &HashSet<RoomName>) -> Vec<ArchivedMark> {
    let mut marks: HashMap<RoomName, ArchivedMark> = HashMap::new();
    for (entry, message) in batch {
        let row = archived.rooms.iter().find(|room| room.chatroom == entry.chatroom);
        let (state, version) = match row {
            Some(row) if row.exists => (row.state, row.state_version),
            Some(_) if deleted.contains(&entry.room) => (RoomState::Deleted, GONE),
            // No entry of the room was written: all are dead letters.
            _ => continue,
        };
        let stored = row.filter(|row| row.exists).map(|row| row.stored);
        let mark = ArchivedMark { room: entry.room, archived: 0, state, version, stored };
        let mark = marks.entry(entry.room).or_insert(mark);
        mark.archived = mark.archived.max(message.seq);
    }
    marks.into_values().collect()
}

#[cfg(test)]
mod tests;
