//! The broker: numbers a message, stores it and publishes it to every node, in one atomic step.
//!
//! [`redis`](crate::backend::redis::broker) implements the port for a cluster,
//! [`embedded`](crate::backend::embedded::broker) for a single node. Both pass the same suites
//! (`broker/suite`). Each caller has the port that it needs:
//!
//! | port | callers |
//! |---|---|
//! | [`MessageLog`] | the relay, which submits messages |
//! | [`RecentLog`] | history, lists of rooms |
//! | [`RoomStates`] | rooms, notifications, jobs |
//! | [`Seeding`] | rooms, when the broker does not have one |
//! | [`Bus`], [`BusHealth`] | sessions, accounts, readiness |
//! | [`ArchiveQueue`](queue::ArchiveQueue), [`Recovery`](recovery::Recovery) | the archiver, the leader |
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
//!   publication compares numbers and reads [`RecentLog::log_after`].

mod bus;
mod log;
pub mod queue;
pub mod recovery;
mod rooms;
mod seeding;
#[cfg(test)]
mod suite;
#[cfg(test)]
pub(crate) mod testing;

pub use bus::{Bus, BusHealth, Provenance, Publication, Sink};
pub use log::{
    LogEntry, MAX_BATCH, MAX_BATCH_BYTES, MAX_BATCH_OF_ALL, MessageLog, Outcome, Partition, RecentLog, Submission,
    Tail, TailQuery,
};
pub use rooms::{Change, MemberCounts, RoomStates, RoomStatus};
pub use seeding::{Seed, Seeding, Ticket};
