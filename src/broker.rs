//! The broker: where a message gets its number, is kept, and goes out to every node, in one step.
//!
//! [`redis`] does this for a cluster, [`embedded`] for a single node. Both pass the same suite (`broker/suite.rs`).
//!
//! What a caller may rely on:
//!
//! - **Atomic.** A message that is [`Outcome::Accepted`] is stored before anybody is sent it, and its publication goes out in
//!   the same step. One call carries a batch; each message has an outcome of its own.
//! - **Order.** Within a room numbers rise in the order of the batch and of the calls, and publications arrive in the order of
//!   their numbers. Nothing is promised between rooms.
//! - **Once.** The same `(side, id)` in a room is one message, however often it is sent: [`Outcome::Known`].
//! - **Failure.** [`Unavailable`] means "may have happened": send the same batch again.
//! - **Cancellation.** A call whose future is dropped may have happened, too; it never happens later than its time limit.
//! - **Publications may be missed.** A sink is told by [`Sink::missed`]; whoever needs them all compares numbers and reads
//!   [`Broker::log_after`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::control::Control;
use crate::domain::{ChatroomId, HostId, MessageId, RoomChange, RoomName, RoomState, Seq, Side, WallClock};
use crate::trace::Trace;

pub mod embedded;
pub mod queue;
pub mod recovery;
pub mod redis;
#[cfg(test)]
mod suite;
#[cfg(test)]
pub(crate) mod testing;

/// The most messages of one [`Broker::accept`].
pub const MAX_BATCH: usize = 64;

/// The most messages of one [`Broker::accept`] on a Redis of one partition, where one call carries the messages of all rooms.
pub const MAX_BATCH_OF_ALL: usize = 256;

/// The most bytes of one [`Broker::accept`]: what keeps a call well under a millisecond of the broker's time.
pub const MAX_BATCH_BYTES: usize = 256 * 1024;

/// A share of the rooms: one bus, one archive queue, one call in flight a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(pub u16);

impl Partition {
    /// The partition of a room among `count`: FNV-1a of its name. Never change it: keys of running clusters hang on it.
    pub fn of(room: RoomName, count: u16) -> Self {
        let hash = room
            .as_bytes()
            .iter()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        Self((hash % u32::from(count.max(1))) as u16)
    }
}

/// The broker could not be reached, or did not answer in time. Whatever was asked may have happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker is unavailable: {0}")]
pub struct Unavailable(pub String);

/// A message that asks for its number.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The room.
    pub room: RoomName,
    /// Who wrote it.
    pub side: Side,
    /// The message's id; what makes a second try harmless.
    pub id: MessageId,
    /// The text.
    pub text: String,
    /// The sender's wall clock.
    pub datetime: WallClock,
    /// The frame up to the place of its number ([`message_head`](crate::protocol::chat::message_head)).
    pub head: Bytes,
    /// The trace that it belongs to, if it is traced.
    pub trace: Option<Trace>,
}

/// What became of a [`Submission`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has this number, is stored, and was published.
    Accepted(Seq),
    /// It had been accepted before.
    Known {
        /// Its number.
        seq: Seq,
        /// Its frame, if the broker still has it.
        frame: Option<Bytes>,
    },
    /// The room is closed.
    Closed,
    /// The room has been deleted.
    Deleted,
    /// The broker does not have the room: seed it and send this message, and all of this room behind it, again.
    Unseeded,
    /// Too much of this partition waits for SQL: come back.
    Full,
}

/// Connections of one node in a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberCounts {
    /// Of guests.
    pub guests: u32,
    /// Of hosts who are present: messages count as read, and cause no e-mail.
    pub hosts: u32,
    /// Of hosts who are away.
    pub away: u32,
}

/// A room as the broker has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomStatus {
    /// Row id.
    pub chatroom: ChatroomId,
    /// Its host.
    pub host: HostId,
    /// Whether it takes messages.
    pub state: RoomState,
    /// Version of that state.
    pub version: u64,
    /// The highest number given.
    pub seq: Seq,
    /// Everything up to here is in SQL.
    pub archived: Seq,
    /// Guests in the room, on all nodes that are alive.
    pub guests: u32,
    /// Connections of hosts who are present, likewise.
    pub hosts: u32,
    /// Connections of hosts who are away, likewise.
    pub away: u32,
}

/// Messages of a room that its row in SQL does not count yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailQuery {
    /// The room.
    pub room: RoomName,
    /// The row counts what is up to here.
    pub after: Seq,
    /// The newest message that is visible.
    pub through: Seq,
    /// The host has seen the messages up to here.
    pub seen: Seq,
    /// Without a number: the host has seen the messages accepted until then.
    pub seen_at: Option<DateTime<Utc>>,
}

/// The answer to a [`TailQuery`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The newest message.
    pub newest: LogEntry,
    /// How many messages of the guest the host has not seen.
    pub unread: u64,
}

/// What a room is made of when the broker does not have it: read from SQL under a [`Ticket`].
#[derive(Clone, Debug)]
pub struct Seed {
    /// Row id.
    pub chatroom: ChatroomId,
    /// Its host.
    pub host: HostId,
    /// Whether it takes messages.
    pub state: RoomState,
    /// Version of that state.
    pub version: u64,
    /// The highest number that SQL knows of.
    pub seq: Seq,
    /// The broker's life in which that number was given. Another life than the present one makes the next number jump.
    pub life: Option<String>,
    /// When the newest message was accepted, or the room made.
    pub last_at: DateTime<Utc>,
    /// The newest messages' ids.
    pub ids: Vec<(Side, MessageId, Seq)>,
}

/// The right to seed one room for a few seconds. A change of the room takes it away.
#[derive(Clone, Debug)]
pub struct Ticket(pub String);

/// One entry of a room's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its number.
    pub seq: Seq,
    /// When it was accepted, by the broker's clock.
    pub accepted_at: DateTime<Utc>,
    /// The complete frame.
    pub frame: Bytes,
}

/// A change of a room's state that SQL has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The room.
    pub room: RoomName,
    /// What became of it.
    pub change: RoomChange,
    /// The version that SQL gave.
    pub version: u64,
    /// For [`RoomChange::Close`]: the notice that everybody in the room gets.
    pub notice: Bytes,
}

/// A message that was accepted somewhere, as it goes over the bus.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// The room.
    pub room: RoomName,
    /// Its host.
    pub host: HostId,
    /// The number before it; a step of more than one means that the broker began a new life.
    pub prev: Seq,
    /// Its number.
    pub seq: Seq,
    /// The complete frame.
    pub frame: &'a [u8],
    /// How it came here; `None` if that is not known.
    pub way: Option<Way>,
    /// The trace that it belongs to, if it is traced.
    pub trace: Option<Trace>,
}

/// How a message came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Whether this node sent it to the broker.
    pub is_own: bool,
    /// How long ago the broker accepted it, as far as this node knows the broker's clock.
    pub age: Duration,
}

/// What arrives from the buses. Called from the driver's own tasks, in order within a room: an implementation never waits.
pub trait Sink: Send + Sync + 'static {
    /// A message was accepted somewhere.
    fn publication(&self, publication: &Publication<'_>);
    /// A notice that is relayed and not stored; `from` is who sent it.
    fn notice(&self, room: RoomName, from: Side, frame: &[u8]);
    /// A room's state changed.
    fn changed(&self, change: Change);
    /// News about a host.
    fn control(&self, control: Control);
    /// Something may have been missed: every room of this node must be compared with the broker.
    fn missed(&self);
}

/// The port. See the module for its promises.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// How many partitions there are; fixed for the life of the process.
    fn partitions(&self) -> u16;

    /// The most messages of one [`accept`](Self::accept).
    fn max_batch(&self) -> usize {
        MAX_BATCH
    }

    /// The partition of a room.
    fn partition_of(&self, room: RoomName) -> Partition {
        Partition::of(room, self.partitions())
    }

    /// Starts to deliver what is published. Called once; returns when the subscriptions stand or `Unavailable` if they do not
    /// yet: the driver goes on trying.
    async fn subscribe(&self, sink: Arc<dyn Sink>) -> Result<(), Unavailable>;

    /// Numbers, stores and publishes a batch of one partition: at most [`max_batch`](Self::max_batch) messages and
    /// [`MAX_BATCH_BYTES`].
    /// Once a room has had [`Outcome::Unseeded`] or [`Outcome::Full`], all its later messages in the batch have it, too.
    async fn accept(&self, partition: Partition, batch: &[&Submission]) -> Result<Vec<Outcome>, Unavailable>;

    /// The broker's present life, where it has one: a number given in another life may have been lost with it.
    async fn life(&self, partition: Partition) -> Result<Option<String>, Unavailable>;

    /// Asks for the right to seed a room. `None`: somebody else has it, or the room is there by now.
    async fn begin_seed(&self, room: RoomName) -> Result<Option<Ticket>, Unavailable>;

    /// Makes a room. `false`: the ticket was lost to a change or to time; begin again.
    async fn finish_seed(&self, room: RoomName, ticket: Ticket, seed: Seed) -> Result<bool, Unavailable>;

    /// Says that a room was deleted, as SQL has no row of it.
    async fn bury(&self, room: RoomName) -> Result<(), Unavailable>;

    /// Begins to delete a room that never had a message: from now on it takes none. `false`, without an effect: it has a message by
    /// now, or a connection is in it. `version` is that of the deletion, which SQL follows with.
    async fn bury_empty(&self, _room: RoomName, _version: u64) -> Result<bool, Unavailable> {
        Ok(false)
    }

    /// Sets how many connections this node has in a room, in absolute numbers. `None`: the room must be seeded first.
    async fn set_counts(&self, room: RoomName, counts: MemberCounts) -> Result<Option<RoomStatus>, Unavailable>;

    /// [`set_counts`](Self::set_counts) where all hosts are present.
    async fn set_members(&self, room: RoomName, guests: u32, hosts: u32) -> Result<Option<RoomStatus>, Unavailable> {
        self.set_counts(room, MemberCounts { guests, hosts, away: 0 }).await
    }

    /// [`set_counts`](Self::set_counts) and, in the same round trip, the newest of the log, descending, at most `newest`: all
    /// that a fresh join asks of the broker. What is accepted meanwhile may be in the status and not yet in the log.
    async fn enter(
        &self,
        room: RoomName,
        counts: MemberCounts,
        newest: usize,
    ) -> Result<Option<(RoomStatus, Vec<LogEntry>)>, Unavailable>;

    /// Rooms as they are; `None` for those that the broker does not have.
    async fn status(&self, rooms: &[RoomName]) -> Result<Vec<Option<RoomStatus>>, Unavailable>;

    /// Rooms of a host with messages that are not in SQL yet, at most `limit` per partition.
    async fn unarchived_rooms(&self, _host: HostId, _limit: usize) -> Result<Vec<RoomName>, Unavailable> {
        Ok(Vec::new())
    }

    /// What SQL does not have of rooms; `None` where nothing was found.
    async fn tails(&self, queries: &[TailQuery]) -> Result<Vec<Option<Tail>>, Unavailable> {
        Ok(vec![None; queries.len()])
    }

    /// The log after a number, ascending, at most `limit`. Steps of more than one, and what lies before the first, may be in SQL.
    async fn log_after(&self, room: RoomName, after: Seq, limit: usize) -> Result<Vec<LogEntry>, Unavailable>;

    /// The log before a number (or from its end), descending, at most `limit`. Below its lowest, ask SQL.
    async fn log_before(&self, room: RoomName, before: Option<Seq>, limit: usize)
    -> Result<Vec<LogEntry>, Unavailable>;

    /// Applies a change that SQL has decided, unless a newer one was applied before, and publishes it.
    async fn apply(&self, change: Change) -> Result<(), Unavailable>;

    /// Retention has taken a room's messages up to a number: nobody reads them here any more either. May be repeated.
    async fn purge(&self, _room: RoomName, _through: Seq) -> Result<(), Unavailable> {
        Ok(())
    }

    /// Relays a notice to everybody in a room. At most once; nothing is stored.
    async fn notify(&self, room: RoomName, from: Side, frame: Bytes) -> Result<(), Unavailable>;

    /// Tells every node. At least once, also for nodes that were away for a while.
    async fn announce(&self, control: Control) -> Result<(), Unavailable>;

    /// Whether what is published is heard here, as far as is known.
    fn hears(&self) -> bool {
        true
    }

    /// Whether the broker answers now.
    async fn ping(&self) -> Result<(), Unavailable>;

    /// The queues of messages that are not in SQL yet; `None` where accepting is storing.
    fn archive_queue(&self) -> Option<Arc<dyn queue::ArchiveQueue>>;
}
