//! Port for the state of rooms: whether a room accepts messages, and how many connections it has.

use async_trait::async_trait;
use bytes::Bytes;

use crate::backend::Unavailable;
use crate::domain::{ChatroomId, HostId, RoomChange, RoomName, RoomState, Seq};

/// Numbers of connections that one node has in a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberCounts {
    /// Number of guest connections.
    pub guests: u32,
    /// Number of connections of present hosts. While a host is present in a room, new messages count as read and the
    /// host receives no e-mails about them.
    pub hosts: u32,
    /// Number of connections of hosts that sent the notice `away` (SPEC 4).
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
    /// Highest sequence number that the broker has assigned.
    pub seq: Seq,
    /// Every message up to this sequence number is in the database.
    pub archived: Seq,
    /// Number of guest connections in the room, on all live nodes.
    pub guests: u32,
    /// Number of connections of present hosts in the room, on all live nodes.
    pub hosts: u32,
    /// Number of connections of hosts that are `away`, on all live nodes.
    pub away: u32,
}

/// Change to a room's state that is committed in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Name of the room.
    pub room: RoomName,
    /// Kind of change.
    pub change: RoomChange,
    /// Version of the new state, assigned by the database.
    pub version: u64,
    /// Notice for every connection in the room. Used only for [`RoomChange::Close`].
    pub notice: Bytes,
}

/// Port for the state of rooms and the connections in them.
#[async_trait]
pub trait RoomStates: Send + Sync + 'static {
    /// Replaces the numbers of this node's connections in a room. Returns the status of the room. Returns `None` if the
    /// room must be seeded first.
    async fn set_counts(&self, room: RoomName, counts: MemberCounts) -> Result<Option<RoomStatus>, Unavailable>;

    /// Calls [`set_counts`](Self::set_counts) with all hosts counted as present.
    async fn set_members(&self, room: RoomName, guests: u32, hosts: u32) -> Result<Option<RoomStatus>, Unavailable> {
        self.set_counts(room, MemberCounts { guests, hosts, away: 0 }).await
    }

    /// Returns the status of each room; `None` for rooms that the broker does not have.
    async fn status(&self, rooms: &[RoomName]) -> Result<Vec<Option<RoomStatus>>, Unavailable>;

    /// Applies and publishes a change that is committed in the database. Has no effect if a newer change has been
    /// applied.
    async fn apply(&self, change: Change) -> Result<(), Unavailable>;

    /// Marks a room that never had a message as deleted, so that it accepts no messages. Returns `false` and changes
    /// nothing if the room has a message or a connection. `version` is the version with which the caller will delete
    /// the room in the database.
    async fn delete_if_empty(&self, room: RoomName, version: u64) -> Result<bool, Unavailable>;
}
