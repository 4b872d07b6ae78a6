//! Recovery of a cluster after a store returned to an earlier state: SQL was restored from a backup, or Redis lost
//! recent writes.
//!
//! The leader drives it ([`crate::node::recovery`]). Each call is atomic and idempotent.

use async_trait::async_trait;

use super::{Partition, Unavailable};
use crate::domain::metric::{LabelValue as _, StoreKind};
use crate::domain::{ChatroomId, RoomName, RoomState, Seq};

/// The store that seems to be in an earlier state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WentBack {
    /// The broker's Redis server.
    Redis,
    /// The database. Takes precedence, because acknowledged messages are lost with it.
    Sql,
}

impl WentBack {
    /// Returns the store as a label of metrics.
    pub(crate) fn kind(self) -> StoreKind {
        match self {
            Self::Redis => StoreKind::Redis,
            Self::Sql => StoreKind::Sql,
        }
    }

    /// Returns the name of the store in logs.
    pub fn store(self) -> &'static str {
        self.kind().value()
    }
}

/// A page of the broker's rooms.
#[derive(Clone, Debug, Default)]
pub struct RoomPage {
    /// Names of the rooms.
    pub rooms: Vec<RoomName>,
    /// Cursor of the next page; `None` after the last.
    pub next: Option<String>,
}

/// State of a room in SQL, and the messages that SQL lacks.
#[derive(Clone, Debug)]
pub struct Reconciled {
    /// Name of the room.
    pub room: RoomName,
    /// Row id of the room.
    pub chatroom: ChatroomId,
    /// State of the room.
    pub state: RoomState,
    /// Version of `state`.
    pub version: u64,
    /// Highest number in SQL.
    pub stored: Seq,
    /// Whether `state` applies although its version is lower than the broker's, because SQL was restored.
    pub is_forced: bool,
    /// Numbers that the broker's log has and SQL lacks, ascending.
    pub missing: Vec<Seq>,
}

/// Port to the recovery of the broker.
#[async_trait]
pub trait Recovery: Send + Sync + 'static {
    /// Returns the generation stored in the broker; `None` before the first was written.
    async fn generation(&self) -> Result<Option<u64>, Unavailable>;

    /// Raises the generation. A lower one has no effect.
    async fn raise_generation(&self, generation: u64) -> Result<(), Unavailable>;

    /// Suspends or resumes the use of the broker by this node, whose database differs from the leader's.
    fn suspend(&self, differs: bool);

    /// Returns the store that accepting or archiving found to be in an earlier state, in any partition.
    async fn suspect(&self) -> Result<Option<WentBack>, Unavailable>;

    /// Begins a new epoch in a partition: the next number of each of its rooms jumps.
    async fn begin_epoch(&self, partition: Partition) -> Result<(), Unavailable>;

    /// Clears the suspicion in a partition.
    async fn clear_suspect(&self, partition: Partition) -> Result<(), Unavailable>;

    /// Returns the rooms of a partition, page by page. A room may be in more than one page.
    async fn rooms(&self, partition: Partition, from: Option<String>) -> Result<RoomPage, Unavailable>;

    /// Applies a room's state from SQL, and queues the messages that SQL lacks again. Returns the number of queued
    /// messages; `None` if the broker no longer has the room, or has it under another row.
    async fn reconcile(&self, room: &Reconciled) -> Result<Option<u64>, Unavailable>;
}
