//! The archive queues: messages that are accepted and not in SQL yet, one queue a partition.
//!
//! One node at a time works on a partition, under a lease. Losing it half-way is harmless: rows are written under their
//! number, and whoever holds the lease next reads from the queue's head.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{Partition, Unavailable};
use crate::domain::{ChatroomId, RoomName, RoomState, Seq};
use crate::trace::Trace;

/// The right to archive a partition, until it runs out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveLease(pub String);

/// An entry of the queue.
#[derive(Clone, Debug)]
pub struct QueueEntry {
    /// Its place in the queue.
    pub position: String,
    /// The room.
    pub room: RoomName,
    /// Its row.
    pub chatroom: ChatroomId,
    /// The broker's life in which it was accepted.
    pub life: String,
    /// When, by the broker's clock.
    pub accepted_at: DateTime<Utc>,
    /// The complete frame.
    pub frame: bytes::Bytes,
    /// As far as is known, nobody of the other side was in the room when it was accepted.
    pub unattended: bool,
    /// The trace that it belongs to, if it is traced.
    pub trace: Option<Trace>,
}

/// How much of a partition waits for SQL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages.
    pub messages: u64,
    /// How long the oldest has waited, by the broker's clock.
    pub oldest: Duration,
    /// The position of the oldest.
    pub head: Option<String>,
}

/// What became of a room that SQL has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It was removed, and this many of its messages are dead letters.
    Now(u64),
    /// The broker knows it as deleted.
    Deleted,
    /// The broker has it under another row.
    Other,
}

/// For how long a room must have been unused to be removed from the broker.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// While the broker has enough memory.
    pub usual: Duration,
    /// While the broker is short of memory.
    pub short_of_memory: Duration,
}

/// Result of [`ArchiveQueue::remove_idle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Rooms that were removed.
    pub removed: u64,
    /// Whether the broker is short of memory.
    pub is_memory_short: bool,
}

/// What SQL says of a room after a batch was committed.
#[derive(Clone, Debug)]
pub struct ArchivedMark {
    /// The room.
    pub room: RoomName,
    /// Everything up to here is in SQL, or will never be (the room is gone).
    pub archived: Seq,
    /// The state that SQL has, applied if it is newer.
    pub state: RoomState,
    /// Its version.
    pub version: u64,
    /// The highest number that SQL had before this batch; `None` without a row.
    pub stored: Option<Seq>,
}

/// The port. Each call is atomic.
#[async_trait]
pub trait ArchiveQueue: Send + Sync + 'static {
    /// Takes or renews the lease of a partition. `None`: another node has it.
    async fn lease(&self, partition: Partition) -> Result<Option<ArchiveLease>, Unavailable>;

    /// Gives the lease back, so that another node need not wait for its end.
    async fn release(&self, partition: Partition, lease: &ArchiveLease) -> Result<(), Unavailable>;

    /// The oldest entries, in order, at most `limit`. Nothing is removed.
    async fn read(&self, partition: Partition, limit: usize) -> Result<Vec<QueueEntry>, Unavailable>;

    /// How much waits.
    async fn backlog(&self, partition: Partition) -> Result<Backlog, Unavailable>;

    /// Marks what was committed and removes the queue up to and including `through`, which is `bytes` of frames. `false`: the
    /// lease is lost, and nothing was changed.
    async fn finish(
        &self,
        partition: Partition,
        lease: &ArchiveLease,
        through: &str,
        bytes: usize,
        marks: &[ArchivedMark],
    ) -> Result<bool, Unavailable>;

    /// Moves an entry that SQL will never take to the dead letters, with the reason. With `is_conflict` another message has its
    /// number, so the broker may have gone back in time. `false`: the lease is lost.
    async fn dead_letter(
        &self,
        partition: Partition,
        lease: &ArchiveLease,
        position: &str,
        why: &str,
        is_conflict: bool,
    ) -> Result<bool, Unavailable>;

    /// Removes a room that SQL has lost, or has under another id (`seed_again`). Its messages become dead letters.
    async fn lose_room(
        &self,
        room: RoomName,
        chatroom: ChatroomId,
        why: &str,
        seed_again: bool,
    ) -> Result<Lost, Unavailable>;

    /// Removes rooms without connections that were not used for a while and that SQL has completely. Where the broker is short of
    /// memory, rooms with connections lose the part of their log that SQL has.
    async fn remove_idle(&self, partition: Partition, idle: Idle) -> Result<Swept, Unavailable>;
}
