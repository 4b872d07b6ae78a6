//! Message broker. In one atomic step, it assigns a sequence number to a message, stores the message and publishes it
//! to every node.
//!
//! [`redis`](crate::backend::redis::broker) implements the ports for a cluster, and
//! [`embedded`](crate::backend::embedded::broker) implements them for a single-node server. Both drivers pass the same
//! test suites (`broker/suite`). Each caller uses only the ports that it needs:
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
//! - **Atomicity.** An [`Outcome::Accepted`] message is stored before any client receives it, and it is published in
//!   the same step. One call submits a batch. Each message of the batch has its own outcome.
//! - **Order.** Within a room, sequence numbers increase in the order of the calls and, within a call, in the order of
//!   the batch. Publications arrive in the order of their sequence numbers. The order between rooms is undefined.
//! - **Deduplication.** Messages of a room with the same side and id count as one message. A later submission is not
//!   stored again. It returns [`Outcome::Known`] while the room is open.
//! - **Failure.** A call that returns [`Unavailable`] may have taken effect. The caller submits the same batch again.
//! - **Cancellation.** A call whose future is dropped may have taken effect. It never takes effect after its deadline.
//! - **Delivery.** Publications may be missed. The driver then calls [`Sink::missed`]. A consumer that needs every
//!   publication detects gaps in the sequence numbers and reads the missing messages with [`RecentLog::log_after`].

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
