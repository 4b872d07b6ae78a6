//! Ports for the log of messages.

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::backend::Unavailable;
use crate::domain::trace::Trace;
use crate::domain::{HostId, MessageId, RoomName, Seq, Side, WallClock};

/// Maximum number of messages per [`MessageLog::accept`].
pub const MAX_BATCH: usize = 64;

/// Maximum number of messages per [`MessageLog::accept`] on a Redis with one partition. One call then contains messages
/// of all rooms.
pub const MAX_BATCH_OF_ALL: usize = 256;

/// Maximum size of one [`MessageLog::accept`], in bytes. Limits the execution time of one call in the broker to well
/// under a millisecond.
pub const MAX_BATCH_BYTES: usize = 256 * 1024;

/// Subset of the rooms. Each partition has one bus, one archive queue, and at most one call in flight per node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(pub u16);

impl Partition {
    /// Returns the partition of a room among `count` partitions: the FNV-1a hash of the room's name, modulo `count`.
    /// The function must never change, because the keys of running clusters depend on it.
    pub fn of(room: RoomName, count: u16) -> Self {
        let hash = room
            .as_bytes()
            .iter()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        Self((hash % u32::from(count.max(1))) as u16)
    }
}

/// A message submitted to [`MessageLog::accept`].
#[derive(Clone, Debug)]
pub struct Submission {
    /// Name of the room.
    pub room: RoomName,
    /// Side of the sender.
    pub side: Side,
    /// Id of the message. Makes a retry idempotent.
    pub id: MessageId,
    /// Text of the message.
    pub text: String,
    /// Time of sending, by the sender's wall clock.
    pub datetime: WallClock,
    /// The frame up to the position of its number ([`message_head`](crate::protocol::chat::message_head)).
    pub head: Bytes,
    /// Trace of the message, if it is traced.
    pub trace: Option<Trace>,
}

/// Result of a [`Submission`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The message was numbered, stored and published. Contains its sequence number.
    Accepted(Seq),
    /// The message was accepted earlier.
    Known {
        /// Number of the message.
        seq: Seq,
        /// Frame of the message, if the broker still has it.
        frame: Option<Bytes>,
    },
    /// The room is closed.
    Closed,
    /// The room has been deleted.
    Deleted,
    /// The broker does not have the room. The caller must seed the room, and then submit this message and all later
    /// messages of the room again.
    Unseeded,
    /// The archive queue of the partition is full. The caller must retry later.
    Full,
}

/// Query for the messages of a room that the counters of its SQL row do not include yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailQuery {
    /// Name of the room.
    pub room: RoomName,
    /// Highest number that the counters of the row include.
    pub after: Seq,
    /// Number of the newest visible message.
    pub through: Seq,
    /// Highest number that the host has read.
    pub seen: Seq,
    /// The host has read the messages accepted until this time. Set only if `seen` is unknown.
    pub seen_at: Option<DateTime<Utc>>,
}

/// The answer to a [`TailQuery`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The newest message.
    pub newest: LogEntry,
    /// Number of guest messages that the host has not read.
    pub unread: u64,
}

/// An entry of a room's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Number of the message.
    pub seq: Seq,
    /// Time of acceptance, by the broker's clock.
    pub accepted_at: DateTime<Utc>,
    /// The complete frame.
    pub frame: Bytes,
}

/// Port that numbers, stores and publishes messages. The relay calls it.
#[async_trait]
pub trait MessageLog: Send + Sync + 'static {
    /// Returns the number of partitions, which is constant for the lifetime of the process.
    fn partitions(&self) -> u16;

    /// Returns the maximum number of messages per [`accept`](Self::accept).
    fn max_batch(&self) -> usize {
        MAX_BATCH
    }

    /// Returns the partition of a room.
    fn partition_of(&self, room: RoomName) -> Partition {
        Partition::of(room, self.partitions())
    }

    /// Numbers, stores and publishes a batch of messages of one partition: at most [`max_batch`](Self::max_batch)
    /// messages and [`MAX_BATCH_BYTES`] bytes. Returns one outcome per message. After the first [`Outcome::Unseeded`]
    /// or [`Outcome::Full`] of a room, all later messages of that room in the batch have the same outcome.
    async fn accept(&self, partition: Partition, batch: &[&Submission]) -> Result<Vec<Outcome>, Unavailable>;
}

/// Port for the recent messages of a cluster's rooms, which may not be in SQL yet. A single-node server does not
/// implement it, because SQL is its only log.
#[async_trait]
pub trait RecentLog: Send + Sync + 'static {
    /// Reads at most `limit` log entries after a number, in ascending order. Messages that are missing before the first
    /// entry or between two entries may be in SQL.
    async fn log_after(&self, room: RoomName, after: Seq, limit: usize) -> Result<Vec<LogEntry>, Unavailable>;

    /// Reads at most `limit` log entries before a number, or from the end of the log, in descending order. Older
    /// messages are in SQL.
    async fn log_before(&self, room: RoomName, before: Option<Seq>, limit: usize)
    -> Result<Vec<LogEntry>, Unavailable>;

    /// Returns rooms of a host that have messages which are not in SQL yet, at most `limit` per partition.
    async fn unarchived_rooms(&self, host: HostId, limit: usize) -> Result<Vec<RoomName>, Unavailable>;

    /// Returns, for each query, the messages that SQL does not have, or `None` if SQL has all of them.
    async fn tails(&self, queries: &[TailQuery]) -> Result<Vec<Option<Tail>>, Unavailable>;

    /// Removes a room's messages up to a number from the log, after retention has removed these messages from SQL.
    /// Idempotent.
    async fn purge(&self, room: RoomName, through: Seq) -> Result<(), Unavailable>;
}
