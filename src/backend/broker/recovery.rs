//! Port for the recovery of a cluster after a store has lost recent writes. The database loses writes when it is
//! restored from a backup. Redis may lose writes in a restart or a failover.
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
    /// The database. If both stores are suspected, this variant takes precedence, because acknowledged messages may be
    /// missing from the database.
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

    /// Returns the name of the store for logs.
    pub fn store(self) -> &'static str {
        self.kind().value()
    }
}

/// Page of the broker's rooms.
#[derive(Clone, Debug, Default)]
pub struct RoomPage {
    /// Names of the rooms.
    pub rooms: Vec<RoomName>,
    /// Cursor of the next page. `None` if this is the last page.
    pub next: Option<String>,
}

/// State of a room in the database, and the messages that are missing from the database.
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
    /// Highest sequence number in the database.
    pub stored: Seq,
    /// Whether `state` applies even if the broker has a higher version, because the database was restored.
    pub is_forced: bool,
    /// Sequence numbers that are in the broker's log and missing from the database, in ascending order.
    pub missing: Vec<Seq>,
}

/// Port for the recovery of the broker.
#[async_trait]
pub trait Recovery: Send + Sync + 'static {
    /// Returns the generation stored in the broker. Returns `None` if none is stored yet. The generation is a counter
    /// in both stores. The leader increases it, and a restored store is detected by its lower generation.
    async fn generation(&self) -> Result<Option<u64>, Unavailable>;

    /// Increases the stored generation to `generation`. Has no effect if the stored generation is not lower.
    async fn raise_generation(&self, generation: u64) -> Result<(), Unavailable>;

    /// Suspends or resumes the use of the broker on this node. `differs` states whether the node and the leader use
    /// different databases. The use is suspended while it is true.
    fn suspend(&self, differs: bool);

    /// Returns the store that appears to have been restored to an earlier state. Returns `None` if neither store does.
    /// Calls that accept or archive messages detect a restored store and record it in the partition.
    async fn suspect(&self) -> Result<Option<WentBack>, Unavailable>;

    /// Begins a new epoch in a partition. The next sequence number of each room in the partition skips ahead. The
    /// broker therefore never reassigns a sequence number whose message was lost.
    async fn begin_epoch(&self, partition: Partition) -> Result<(), Unavailable>;

    /// Clears the record of a restored store ([`suspect`](Self::suspect)) in a partition.
    async fn clear_suspect(&self, partition: Partition) -> Result<(), Unavailable>;

    /// Returns one page of the rooms of a partition. `from` is the cursor of the page, and `None` requests the first
    /// page. A room may be in more than one page.
    async fn rooms(&self, partition: Partition, from: Option<String>) -> Result<RoomPage, Unavailable>;

    /// Applies a room's state from the database to the broker. Messages that are missing from the database are added to
    /// the archive queue again. Returns the number of added messages. Returns `None` if the broker no longer has the
    /// room or has it under a different row id.
    async fn reconcile(&self, room: &Reconciled) -> Result<Option<u64>, Unavailable>;
}
