//! Ports that accept messages and read the messages of a room.

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::backend::Unavailable;
use crate::domain::trace::Trace;
use crate::domain::{HostId, MessageId, RoomName, Seq, Side, WallClock};

/// Maximum number of messages per [`MessageLog::accept`] call.
pub const MAX_BATCH: usize = 64;

/// Maximum number of messages per [`MessageLog::accept`] call on a Redis with one partition. The limit is higher than
/// [`MAX_BATCH`], because a batch then contains messages of all rooms.
pub const MAX_BATCH_OF_ALL: usize = 256;

/// Maximum size of a batch for [`MessageLog::accept`], in bytes. With this limit, the broker executes a call in well
/// under a millisecond.
pub const MAX_BATCH_BYTES: usize = 256 * 1024;

/// A fixed subset of the rooms, identified by an index. Each partition has one bus, one archive queue, and at most one
/// `accept` call in flight per node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(pub u16);

impl Partition {
    /// Returns the partition of a room among `count` partitions. The index is the FNV-1a hash of the room's name,
    /// modulo `count`. The function must never change, because the Redis keys of running clusters depend on it.
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
    /// Id of the message, assigned by the client or by the server. It makes retries idempotent.
    pub id: MessageId,
    /// Text of the message.
    pub text: String,
    /// Wall-clock time that the sender wrote into the message.
    pub datetime: WallClock,
    /// JSON frame up to the position of the sequence number ([`message_head`](crate::protocol::chat::message_head)).
    pub head: Bytes,
    /// Trace of the message, if it is traced.
    pub trace: Option<Trace>,
}

/// Result of a [`Submission`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The message was stored and published. Contains its sequence number.
    Accepted(Seq),
    /// The message was accepted earlier.
    Known {
        /// Sequence number of the message.
        seq: Seq,
        /// Frame of the message. `None` if the broker no longer has it.
        frame: Option<Bytes>,
    },
    /// The room is closed.
    Closed,
    /// The room has been deleted.
    Deleted,
    /// The broker does not have the room. The caller must seed the room, and then submit this message and all later
    /// messages of the room again.
    Unseeded,
    /// The archive queue of the partition is full. The caller must submit the message again later.
    Full,
}

/// Query for messages of one room. The message counts in the room's database row do not include these messages yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailQuery {
    /// Name of the room.
    pub room: RoomName,
    /// Highest sequence number that the counts in the row include.
    pub after: Seq,
    /// Sequence number of the newest visible message.
    pub through: Seq,
    /// Highest sequence number that the host has read.
    pub seen: Seq,
    /// Time of acceptance of the newest message that the host has read. Set only if `seen` is unknown.
    pub seen_at: Option<DateTime<Utc>>,
}

/// Result of a [`TailQuery`] that found messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The newest message.
    pub newest: LogEntry,
    /// Number of guest messages that the host has not read.
    pub unread: u64,
}

/// Entry of a room's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Sequence number of the message.
    pub seq: Seq,
    /// Time of acceptance, by the broker's clock.
    pub accepted_at: DateTime<Utc>,
    /// Complete JSON frame.
    pub frame: Bytes,
}

/// Port that assigns sequence numbers to messages, stores them and publishes them.
#[async_trait]
pub trait MessageLog: Send + Sync + 'static {
    /// Returns the number of partitions, which is constant for the lifetime of the process.
    fn partitions(&self) -> u16;

    /// Returns the maximum number of messages per [`accept`](Self::accept) call.
    fn max_batch(&self) -> usize {
        MAX_BATCH
    }

    /// Returns the partition of a room.
    fn partition_of(&self, room: RoomName) -> Partition {
        Partition::of(room, self.partitions())
    }

    /// Assigns sequence numbers to a batch of messages of one partition, stores the batch and publishes it. A batch
    /// contains at most [`max_batch`](Self::max_batch) messages and [`MAX_BATCH_BYTES`] bytes. Returns one outcome per
    /// message. After the first [`Outcome::Unseeded`] or [`Outcome::Full`] of a room, all later messages of the room in
    /// the batch have the same outcome.
    async fn accept(&self, partition: Partition, batch: &[&Submission]) -> Result<Vec<Outcome>, Unavailable>;
}

/// Port for the recent messages of a cluster's rooms. These messages may be missing from the database. A single-node
/// server does not implement the port, because the database is its only log.
#[async_trait]
pub trait RecentLog: Send + Sync + 'static {
    /// Returns at most `limit` log entries with a sequence number above `after`, in ascending order. Messages that
    /// precede the first entry or lie between two entries may be in the database.
    async fn log_after(&self, room: RoomName, after: Seq, limit: usize) -> Result<Vec<LogEntry>, Unavailable>;

    /// Returns at most `limit` log entries with a sequence number below `before`, in descending order. Starts at the
    /// newest entry if `before` is `None`. Messages older than the oldest log entry are in the database.
    async fn log_before(&self, room: RoomName, before: Option<Seq>, limit: usize)
    -> Result<Vec<LogEntry>, Unavailable>;

    /// Returns rooms of a host for which the database lacks messages. Returns at most `limit` rooms per partition.
    async fn unarchived_rooms(&self, host: HostId, limit: usize) -> Result<Vec<RoomName>, Unavailable>;

    /// Returns one result per query: a summary of the messages that are missing from the database, or `None` if none
    /// are missing.
    async fn tails(&self, queries: &[TailQuery]) -> Result<Vec<Option<Tail>>, Unavailable>;

    /// Removes the messages of a room up to the sequence number `through` from the log. The caller has deleted these
    /// messages from the database. Idempotent.
    async fn purge(&self, room: RoomName, through: Seq) -> Result<(), Unavailable>;
}
