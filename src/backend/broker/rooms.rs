//! Port for the state of rooms: whether they accept messages, and how many connections they have.

use async_trait::async_trait;
use bytes::Bytes;

use crate::backend::Unavailable;
use crate::domain::{ChatroomId, HostId, RoomChange, RoomName, RoomState, Seq};

/// Number of connections that one node has in a room, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberCounts {
    /// Connections of guests.
    pub guests: u32,
    /// Connections of present hosts. While a host is present in a room, new messages count as read and no e-mail is
    /// sent to the host.
    pub hosts: u32,
    /// Connections of hosts that sent the notice `away` (SPEC 4).
    pub away: u32,
}

/// State of a room in the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomStatus {
    /// Row id of the room.
    pub chatroom: ChatroomId,
    /// Row id of the room's host.
    pub host: HostId,
    /// Whether the room accepts messages.
    pub state: RoomState,
    /// Version of `state`.
    pub version: u64,
    /// Highest sequence number assigned.
    pub seq: Seq,
    /// Every message up to this sequence number is in SQL.
    pub archived: Seq,
    /// Connections of guests in the room, on all live nodes.
    pub guests: u32,
    /// Connections of present hosts, on all live nodes.
    pub hosts: u32,
    /// Connections of hosts that are `away`, on all live nodes.
    pub away: u32,
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

/// Port for the state of rooms and the connections in them.
#[async_trait]
pub trait RoomStates: Send + Sync + 'static {
    /// Sets the number of this node's connections in a room. The counts replace the previous counts of this node.
    /// Returns `None` if the room must be seeded first.
    async fn set_counts(&self, room: RoomName, counts: MemberCounts) -> Result<Option<RoomStatus>, Unavailable>;

    /// Calls [`set_counts`](Self::set_counts) with all hosts counted as present.
    async fn set_members(&self, room: RoomName, guests: u32, hosts: u32) -> Result<Option<RoomStatus>, Unavailable> {
        self.set_counts(room, MemberCounts { guests, hosts, away: 0 }).await
    }

    /// Returns the state of each room; `None` for rooms that the broker does not have.
    async fn status(&self, rooms: &[RoomName]) -> Result<Vec<Option<RoomStatus>>, Unavailable>;

    /// Applies a change committed in SQL and publishes it, unless a newer change has already been applied.
    async fn apply(&self, change: Change) -> Result<(), Unavailable>;

    /// Marks a room that never had a message as deleted. The room accepts no messages afterwards. Returns `false` and
    /// changes nothing if the room has a message or a connection. `version` is the version of the deletion that SQL
    /// commits next.
    async fn delete_if_empty(&self, room: RoomName, version: u64) -> Result<bool, Unavailable>;
}
