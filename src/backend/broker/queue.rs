//! Port for the archive queues, from which the archiver copies messages to the database. The queue of a partition
//! contains the accepted messages that are missing from the database.
//!
//! One node at a time archives a partition, under a lease. Losing the lease during a batch does no harm: rows are keyed
//! by sequence number, so inserting the same message twice has no effect. The next lease holder continues at the head
//! of the queue.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::Partition;
use crate::backend::Unavailable;
use crate::domain::trace::Trace;
use crate::domain::{ChatroomId, RoomName, RoomState, Seq};

/// Lease on archiving a partition. Contains the id of the holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveLease(pub String);

/// An entry of an archive queue.
#[derive(Clone, Debug)]
pub struct QueueEntry {
    /// Position of the entry in the queue.
    pub position: String,
    /// Name of the room.
    pub room: RoomName,
    /// Row id of the room.
    pub chatroom: ChatroomId,
    /// Broker epoch in which the message was accepted ([`Seeding::epoch`](super::Seeding::epoch)).
    pub epoch: String,
    /// Time of acceptance, by the broker's clock.
    pub accepted_at: DateTime<Utc>,
    /// Complete JSON frame. Empty if the entry is malformed.
    pub frame: bytes::Bytes,
    /// Whether the recipient's side had no known connection in the room when the message was accepted.
    pub unattended: bool,
    /// Trace of the message, if it is traced.
    pub trace: Option<Trace>,
}

/// Size and age of a partition's archive queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Backlog {
    /// Number of messages in the queue.
    pub messages: u64,
    /// Used share of the limit of the queue, in messages or bytes, whichever is larger. Messages are rejected at 1.
    pub share: f64,
    /// Age of the oldest message, by the broker's clock.
    pub oldest: Duration,
    /// Position of the oldest message. `None` if the queue is empty.
    pub head: Option<String>,
}

/// Result of a call to [`ArchiveQueue::remove_lost_room`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The room was removed. The field contains the number of its messages that became dead letters.
    Now(u64),
    /// The broker had already marked the room as deleted.
    Deleted,
    /// The broker has the room under a different row id. Nothing was removed.
    Other,
}

/// Minimum time without use before a room is removed from the broker.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// Minimum time while the broker has enough memory.
    pub usual: Duration,
    /// Minimum time while the broker is low on memory.
    pub short_of_memory: Duration,
}

/// Result of a call to [`ArchiveQueue::remove_idle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Number of removed rooms.
    pub removed: u64,
    /// Whether the broker is low on memory.
    pub is_memory_short: bool,
}

/// State of a room in the database after a batch was committed.
#[derive(Clone, Debug)]
pub struct ArchivedMark {
    /// Name of the room.
    pub room: RoomName,
    /// Every message up to this number is in the database, or will never be, because the room was deleted.
    pub archived: Seq,
    /// State of the room in the database. The broker applies it if `version` is higher than the version in the broker.
    pub state: RoomState,
    /// Version of `state`.
    pub version: u64,
    /// Highest sequence number in the database before this batch. `None` if the room has no row.
    pub stored: Option<Seq>,
}

/// Port for the archive queues. Each call is atomic.
#[async_trait]
pub trait ArchiveQueue: Send + Sync + 'static {
    /// Acquires or renews this node's lease on archiving a partition. Returns `None` if another node holds it.
    async fn lease(&self, partition: Partition) -> Result<Option<ArchiveLease>, Unavailable>;

    /// Releases the lease, so that another node can acquire it at once.
    async fn release(&self, partition: Partition, lease: &ArchiveLease) -> Result<(), Unavailable>;

    /// Returns at most `limit` entries of the queue, oldest first. The entries remain in the queue.
    async fn read(&self, partition: Partition, limit: usize) -> Result<Vec<QueueEntry>, Unavailable>;

    /// Returns the size and age of a partition's queue.
    async fn backlog(&self, partition: Partition) -> Result<Backlog, Unavailable>;

    /// Marks committed messages as archived. Removes the queue entries up to and including `through`. `bytes` is the
    /// total size of the removed frames. Returns `false` and changes nothing if the lease is lost.
    async fn finish(
        &self,
        partition: Partition,
        lease: &ArchiveLease,
        through: &str,
        bytes: usize,
        marks: &[ArchivedMark],
    ) -> Result<bool, Unavailable>;

    /// Moves an entry from the queue to the dead letters, because the database can never store it. `why` is the reason.
    /// If `is_conflict` is true, a different message already has the sequence number, so the broker may have been
    /// restored to an earlier state. Returns `false` and changes nothing if the lease is lost.
    async fn dead_letter(
        &self,
        partition: Partition,
        lease: &ArchiveLease,
        position: &str,
        why: &str,
        is_conflict: bool,
    ) -> Result<bool, Unavailable>;

    /// Removes a room that has no row in the database, or whose row has a different id. In the second case, the caller
    /// sets `seed_again`, so that the room can be seeded from the other row. The messages of the room become dead
    /// letters.
    async fn remove_lost_room(
        &self,
        room: RoomName,
        chatroom: ChatroomId,
        why: &str,
        seed_again: bool,
    ) -> Result<Lost, Unavailable>;

    /// Removes rooms that are unused, have no connections, and have no messages that are missing from the database.
    /// `idle` determines when a room counts as unused. While the broker is low on memory, also deletes the archived log
    /// entries of unused rooms that have connections.
    async fn remove_idle(&self, partition: Partition, idle: Idle) -> Result<Swept, Unavailable>;
}
