//! The broker: numbers a message, stores it and publishes it to every node, in one atomic step.
//!
//! [`redis`](crate::backend::redis::broker) implements the port for a cluster,
//! [`embedded`](crate::backend::embedded::broker) for a single node. Both pass the same suite
//! (`broker/suite.rs`).
//!
//! Guarantees:
//!
//! - **Atomicity.** A message that is [`Outcome::Accepted`] is stored before any client receives it, and is published
//!   in the same step. One call carries a batch; each message has its own outcome.
//! - **Order.** Within a room, numbers rise in the order of the batch and of the calls, and publications arrive in the
//!   order of their numbers. There is no order between rooms.
//! - **Deduplication.** The same `(side, id)` in a room is one message, however often it is submitted:
//!   [`Outcome::Known`].
//! - **Failure.** After [`Unavailable`] the call may have taken effect: submit the same batch again.
//! - **Cancellation.** A call whose future is dropped may have taken effect as well. It never takes effect after its
//!   time limit.
//! - **Delivery.** Publications may be missed; [`Sink::missed`] then notifies the sink. A consumer that needs every
//!   publication compares numbers and reads [`Broker::log_after`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::backend::Unavailable;
use crate::domain::Control;
use crate::domain::trace::Trace;
use crate::domain::{ChatroomId, HostId, MessageId, RoomChange, RoomName, RoomState, Seq, Side, WallClock};

pub mod queue;
pub mod recovery;
#[cfg(test)]
mod suite;
#[cfg(test)]
pub(crate) mod testing;

/// Maximum number of messages per [`Broker::accept`].
pub const MAX_BATCH: usize = 64;

/// Maximum number of messages per [`Broker::accept`] on a Redis with one partition, where one call carries the messages
/// of all rooms.
pub const MAX_BATCH_OF_ALL: usize = 256;

/// Maximum size of one [`Broker::accept`], in bytes. Keeps a call well under a millisecond of the broker's time.
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

/// A message submitted to [`Broker::accept`].
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

/// Number of connections of one node in a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberCounts {
    /// Connections of guests.
    pub guests: u32,
    /// Connections of hosts that are present: messages count as read, and no e-mail is sent.
    pub hosts: u32,
    /// Connections of hosts that sent the notice `away` (SPEC 4).
    pub away: u32,
}

/// State of a room in the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomStatus {
    /// Row id of the room.
    pub chatroom: ChatroomId,
    /// Row id of its host.
    pub host: HostId,
    /// State of the room, which decides whether it accepts messages.
    pub state: RoomState,
    /// Version of `state`.
    pub version: u64,
    /// Highest number assigned.
    pub seq: Seq,
    /// Every message up to this number is in SQL.
    pub archived: Seq,
    /// Connections of guests in the room, on all live nodes.
    pub guests: u32,
    /// Connections of present hosts, on all live nodes.
    pub hosts: u32,
    /// Connections of hosts that are `away`, on all live nodes.
    pub away: u32,
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

/// State read from SQL under a [`Ticket`], from which the broker creates a room that it does not have.
#[derive(Clone, Debug)]
pub struct Seed {
    /// Row id of the room.
    pub chatroom: ChatroomId,
    /// Row id of its host.
    pub host: HostId,
    /// State of the room.
    pub state: RoomState,
    /// Version of `state`.
    pub version: u64,
    /// Highest number in SQL.
    pub seq: Seq,
    /// Epoch of the broker in which `seq` was assigned. If it is not the current epoch, the next number jumps.
    pub life: Option<String>,
    /// Time at which the newest message was accepted, or the room was created.
    pub last_at: DateTime<Utc>,
    /// Ids and numbers of the newest messages.
    pub ids: Vec<(Side, MessageId, Seq)>,
}

/// The right to seed one room, valid for a few seconds. A change of the room's state revokes it.
#[derive(Clone, Debug)]
pub struct Ticket(pub String);

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

/// A change of a room's state, committed in SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Name of the room.
    pub room: RoomName,
    /// Kind of change.
    pub change: RoomChange,
    /// Version of the new state, assigned by SQL.
    pub version: u64,
    /// For [`RoomChange::Close`]: the notice sent to every connection in the room.
    pub notice: Bytes,
}

/// An accepted message, as received over the bus.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// Name of the room.
    pub room: RoomName,
    /// Row id of its host.
    pub host: HostId,
    /// Number of the preceding message. A step of more than one means that the broker began a new epoch.
    pub prev: Seq,
    /// Number of the message.
    pub seq: Seq,
    /// The complete frame.
    pub frame: &'a [u8],
    /// Origin and age of the message; `None` if unknown.
    pub way: Option<Way>,
    /// Trace of the message, if it is traced.
    pub trace: Option<Trace>,
}

/// Origin and age of a received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Whether this node submitted the message.
    pub is_own: bool,
    /// Time since the broker accepted the message, by this node's estimate of the broker's clock.
    pub age: Duration,
}

/// Receives what the buses deliver. The driver's tasks call it, in order within a room. An implementation must not
/// block.
pub trait Sink: Send + Sync + 'static {
    /// Called for each accepted message, on any node.
    fn publication(&self, publication: &Publication<'_>);
    /// Called for a notice that is relayed and not stored; `from` is the sender's side.
    fn notice(&self, room: RoomName, from: Side, frame: &[u8]);
    /// Called for each change of a room's state.
    fn changed(&self, change: Change);
    /// Called for each account change of a host.
    fn control(&self, control: Control);
    /// Called when publications may have been missed: every room of this node must be compared with the broker.
    fn missed(&self);
}

/// Port to the broker. The module documents its guarantees.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
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

    /// Starts to deliver publications to `sink`. Must be called once. Returns when all subscriptions are active, or
    /// [`Unavailable`] if they are not active yet; the driver keeps retrying.
    async fn subscribe(&self, sink: Arc<dyn Sink>) -> Result<(), Unavailable>;

    /// Numbers, stores and publishes a batch of one partition: at most [`max_batch`](Self::max_batch) messages and
    /// [`MAX_BATCH_BYTES`]. Returns one outcome per message.
    /// After the first [`Outcome::Unseeded`] or [`Outcome::Full`] of a room, all later messages of that room in the
    /// batch have the same outcome.
    async fn accept(&self, partition: Partition, batch: &[&Submission]) -> Result<Vec<Outcome>, Unavailable>;

    /// Returns the broker's current epoch; `None` for a driver without epochs. A number assigned in another epoch may
    /// have been lost with it.
    async fn life(&self, partition: Partition) -> Result<Option<String>, Unavailable>;

    /// Requests the right to seed a room. Returns `None` if another node holds it, or if the broker has the room.
    async fn begin_seed(&self, room: RoomName) -> Result<Option<Ticket>, Unavailable>;

    /// Creates a room. Returns `false` if the ticket was revoked by a change or has expired: begin again.
    async fn finish_seed(&self, room: RoomName, ticket: Ticket, seed: Seed) -> Result<bool, Unavailable>;

    /// Marks a room as deleted, because SQL has no row of it.
    async fn bury(&self, room: RoomName) -> Result<(), Unavailable>;

    /// Marks a room that never had a message as deleted; it accepts no messages afterwards. Returns `false`, without an
    /// effect, if it has a message or a connection. `version` is the version of the deletion that SQL commits next.
    async fn bury_empty(&self, _room: RoomName, _version: u64) -> Result<bool, Unavailable> {
        Ok(false)
    }

    /// Sets the number of this node's connections in a room, in absolute numbers. Returns `None` if the room must be
    /// seeded first.
    async fn set_counts(&self, room: RoomName, counts: MemberCounts) -> Result<Option<RoomStatus>, Unavailable>;

    /// Calls [`set_counts`](Self::set_counts) with all hosts present.
    async fn set_members(&self, room: RoomName, guests: u32, hosts: u32) -> Result<Option<RoomStatus>, Unavailable> {
        self.set_counts(room, MemberCounts { guests, hosts, away: 0 }).await
    }

    /// Calls [`set_counts`](Self::set_counts) and reads the newest log entries, descending, at most `newest`, in one
    /// round trip: everything that a fresh join reads from the broker. A message accepted meanwhile may be in the
    /// status and not yet in the log.
    async fn enter(
        &self,
        room: RoomName,
        counts: MemberCounts,
        newest: usize,
    ) -> Result<Option<(RoomStatus, Vec<LogEntry>)>, Unavailable>;

    /// Returns the state of each room; `None` for rooms that the broker does not have.
    async fn status(&self, rooms: &[RoomName]) -> Result<Vec<Option<RoomStatus>>, Unavailable>;

    /// Returns rooms of a host with messages that are not in SQL yet, at most `limit` per partition.
    async fn unarchived_rooms(&self, _host: HostId, _limit: usize) -> Result<Vec<RoomName>, Unavailable> {
        Ok(Vec::new())
    }

    /// Returns, per query, the messages that SQL does not have; `None` where there are none.
    async fn tails(&self, queries: &[TailQuery]) -> Result<Vec<Option<Tail>>, Unavailable> {
        Ok(vec![None; queries.len()])
    }

    /// Reads the log after a number, ascending, at most `limit` entries. Messages missing before the first entry, or
    /// between two entries, may be in SQL.
    async fn log_after(&self, room: RoomName, after: Seq, limit: usize) -> Result<Vec<LogEntry>, Unavailable>;

    /// Reads the log before a number, or from its end, descending, at most `limit` entries. Older messages are in SQL.
    async fn log_before(&self, room: RoomName, before: Option<Seq>, limit: usize)
    -> Result<Vec<LogEntry>, Unavailable>;

    /// Applies a change committed in SQL, unless a newer one was applied before, and publishes it.
    async fn apply(&self, change: Change) -> Result<(), Unavailable>;

    /// Removes a room's messages up to a number from the log, after retention removed them from SQL. Idempotent.
    async fn purge(&self, _room: RoomName, _through: Seq) -> Result<(), Unavailable> {
        Ok(())
    }

    /// Relays a notice to every connection in a room. At most once; nothing is stored.
    async fn notify(&self, room: RoomName, from: Side, frame: Bytes) -> Result<(), Unavailable>;

    /// Publishes an account change to every node. At least once, including nodes that reconnect later.
    async fn announce(&self, control: Control) -> Result<(), Unavailable>;

    /// Whether this node receives what is published, as far as is known.
    fn hears(&self) -> bool {
        true
    }

    /// Checks that the broker answers.
    async fn ping(&self) -> Result<(), Unavailable>;

    /// Returns the queues of messages that are not in SQL yet; `None` where [`accept`](Self::accept) itself writes to
    /// SQL.
    fn archive_queue(&self) -> Option<Arc<dyn queue::ArchiveQueue>>;
}
