//! Recovery after a store went back in time: SQL was restored from a backup, or Redis returned to an earlier state.
//!
//! Only a cluster needs it. The leader drives it ([`crate::recovery`]); each call is atomic and may be repeated.

use async_trait::async_trait;

use super::{Partition, Unavailable};
use crate::domain::{ChatroomId, RoomName, RoomState, Seq};

/// The store that seems to be in an earlier state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WentBack {
    /// The broker's server.
    Redis,
    /// The database. It is the more serious one: it loses what was acknowledged.
    Sql,
}

impl WentBack {
    /// The label of metrics and logs.
    pub fn store(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Sql => "sql",
        }
    }
}

/// A part of the rooms that the broker has.
#[derive(Clone, Debug, Default)]
pub struct RoomPage {
    /// The rooms.
    pub rooms: Vec<RoomName>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<String>,
}

/// A room as SQL has it, and what SQL lacks of it.
#[derive(Clone, Debug)]
pub struct Reconciled {
    /// The room.
    pub room: RoomName,
    /// Its row.
    pub chatroom: ChatroomId,
    /// Its state.
    pub state: RoomState,
    /// The version of that state.
    pub version: u64,
    /// The highest number in SQL.
    pub stored: Seq,
    /// Whether SQL's state counts although its version is lower than the broker's: SQL went back.
    pub is_forced: bool,
    /// Numbers that the broker's log has and SQL has not, ascending.
    pub missing: Vec<Seq>,
}

/// The port.
#[async_trait]
pub trait Recovery: Send + Sync + 'static {
    /// The generation that the broker has; `None` where none was written yet.
    async fn generation(&self) -> Result<Option<u64>, Unavailable>;

    /// Raises the generation. A lower one has no effect.
    async fn raise_generation(&self, generation: u64) -> Result<(), Unavailable>;

    /// Stops, or resumes, the use of the broker by this node, whose database differs from the leader's.
    fn suspend(&self, differs: bool);

    /// The store that accepting or archiving found to be in an earlier state, in any partition.
    async fn suspect(&self) -> Result<Option<WentBack>, Unavailable>;

    /// Begins another epoch in a partition: the next number of each of its rooms jumps.
    async fn begin_epoch(&self, partition: Partition) -> Result<(), Unavailable>;

    /// Ends the suspicion in a partition.
    async fn clear_suspect(&self, partition: Partition) -> Result<(), Unavailable>;

    /// The rooms of a partition, page by page. A room may be in more than one page.
    async fn rooms(&self, partition: Partition, from: Option<String>) -> Result<RoomPage, Unavailable>;

    /// Takes over a room's state from SQL, and queues again what SQL lacks. Returns how many messages were queued; `None` if
    /// the broker has another room, or none, by now.
    async fn reconcile(&self, room: &Reconciled) -> Result<Option<u64>, Unavailable>;
}
