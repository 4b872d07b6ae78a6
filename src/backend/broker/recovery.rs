//! Port for the recovery of a cluster after a store has lost recent writes: SQL was restored from a backup, or Redis
//! lost its most recent writes in a restart or failover.
//!
//! The leader runs the recovery ([`crate::node::recovery`]). Each call is atomic and idempotent.

use async_trait::async_trait;

use super::Partition;
use crate::backend::Unavailable;
use crate::domain::metric::{LabelValue as _, StoreKind};
use crate::domain::{ChatroomId, RoomName, RoomState, Seq};

/// Store that appears to have been restored to an earlier state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WentBack {
    /// Redis, which stores the broker's state.
    Redis,
    /// The SQL database. If both stores are suspected, this variant takes precedence, because acknowledged messages may
    /// be missing in SQL.
    Sql,
}

impl WentBack {
    /// Returns the store as a metric label.
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
    /// Cursor of the next page; `None` if this is the last page.
    pub next: Option<String>,
}

/// State of a room in SQL, and the messages that are missing in SQL.
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
    /// Highest sequence number in SQL.
    pub stored: Seq,
    /// Whether `state` applies even if its version is lower than the broker's, because SQL was restored.
    pub is_forced: bool,
    /// Sequence numbers that are in the broker's log and not in SQL, ascending.
    pub missing: Vec<Seq>,
}

/// Port for the recovery of the broker.
#[async_trait]
pub trait Recovery: Send + Sync + 'static {
    /// Returns the generation stored in the broker; `None` if none was written yet. The generation is a counter that
    /// the leader raises in both stores, so that a restored store can be detected.
    async fn generation(&self) -> Result<Option<u64>, Unavailable>;

    /// Raises the stored generation. A value below the stored generation has no effect.
    async fn raise_generation(&self, generation: u64) -> Result<(), Unavailable>;

    /// Suspends this node's use of the broker if `differs` is true, because the node and the leader use different
    /// databases. Resumes the use if `differs` is false.
    fn suspend(&self, differs: bool);

    /// Returns the store that appears to have been restored to an earlier state. Calls that accept or archive messages
    /// detect and record this per partition.
    async fn suspect(&self) -> Result<Option<WentBack>, Unavailable>;

    /// Begins a new epoch in a partition: the next sequence number of each of its rooms skips ahead, so that no lost
    /// number is assigned again.
    async fn begin_epoch(&self, partition: Partition) -> Result<(), Unavailable>;

    /// Clears the record of a suspected restore ([`suspect`](Self::suspect)) in a partition.
    async fn clear_suspect(&self, partition: Partition) -> Result<(), Unavailable>;

    /// Returns the rooms of a partition, page by page. A room may be in more than one page.
    async fn rooms(&self, partition: Partition, from: Option<String>) -> Result<RoomPage, Unavailable>;

    /// Applies a room's state from SQL, and adds the messages that are missing in SQL to the archive queue again.
    /// Returns the number of queued messages; `None` if the broker no longer has the room or has another row id for it.
    async fn reconcile(&self, room: &Reconciled) -> Result<Option<u64>, Unavailable>;
}
