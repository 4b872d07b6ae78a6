//! Ports to the log of messages.

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::backend::Unavailable;
use crate::domain::trace::Trace;
use crate::domain::{HostId, MessageId, RoomName, Seq, Side, WallClock};

/// Maximum number of messages per [`MessageLog::accept`].
pub const MAX_BATCH: usize = 64;

/// Maximum number of messages per [`MessageLog::accept`] on a Redis with one partition, where one call carries the messages
/// of all rooms.
pub const MAX_BATCH_OF_ALL: usize = 256;

/// Maximum size of one [`MessageLog::accept`], in bytes. Keeps a call well under a millisecond of the broker's time.
pub const MAX_BATCH_BYTES: usize = 256 * 1024;

/// A share of the rooms, with one bus, one archive queue, and one call in flight per node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(pub u16);

impl Partition {
    /// Returns the partition of a room among `count`: FNV-1a of its name. The function must never change, because the
    /// keys of running clusters depend on it.
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
    /// Time at the sender's wall clock.
    pub datetime: WallClock,
    /// The frame up to the position of its number ([`message_head`](crate::protocol::chat::message_head)).
    pub head: Bytes,
    /// Trace of the message, if it is traced.
    pub trace: Option<Trace>,
}

/// Result of a [`Submission`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The message received this number, is stored, and was published.
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
    /// The broker does not have the room: seed it, then submit this message and all later ones of this room again.
    Unseeded,
    /// The partition's archive queue is full: retry later.
    Full,
}

/// Query for the messages of a room that its SQL row does not count yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailQuery {
    /// Name of the room.
    pub room: RoomName,
    /// The row counts messages up to this number.
    pub after: Seq,
    /// Number of the newest visible message.
    pub through: Seq,
    /// The host has read the messages up to this number.
    pub seen: Seq,
    /// The host has read the messages accepted until this time; set where no number is known.
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

/// Port through which messages are numbered, stored and published. Called by the relay.
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

    /// Numbers, stores and publishes a batch of one partition: at most [`max_batch`](Self::max_batch) messages and
    /// [`MAX_BATCH_BYTES`]. Returns one outcome per message.
    /// After the first [`Outcome::Unseeded`] or [`Outcome::Full`] of a room, all later messages of that room in the
    /// batch have the same outcome.
    async fn accept(&self, partition: Partition, batch: &[&Submission]) -> Result<Vec<Outcome>, Unavailable>;
}

/// Port to the recent messages of a cluster's rooms, which SQL may not have yet. A single node has none: its log is SQL.
#[async_trait]
pub trait RecentLog: Send + Sync + 'static {
    /// Reads the log after a number, ascending, at most `limit` entries. Messages missing before the first entry, or
    /// between two entries, may be in SQL.
    async fn log_after(&self, room: RoomName, after: Seq, limit: usize) -> Result<Vec<LogEntry>, Unavailable>;

    /// Reads the log before a number, or from its end, descending, at most `limit` entries. Older messages are in SQL.
    async fn log_before(&self, room: RoomName, before: Option<Seq>, limit: usize)
    -> Result<Vec<LogEntry>, Unavailable>;

    /// Returns rooms of a host with messages that are not in SQL yet, at most `limit` per partition.
    async fn unarchived_rooms(&self, host: HostId, limit: usize) -> Result<Vec<RoomName>, Unavailable>;

    /// Returns, per query, the messages that SQL does not have; `None` where there are none.
    async fn tails(&self, queries: &[TailQuery]) -> Result<Vec<Option<Tail>>, Unavailable>;

    /// Removes a room's messages up to a number from the log, after retention removed them from SQL. Idempotent.
    async fn purge(&self, room: RoomName, through: Seq) -> Result<(), Unavailable>;
}
