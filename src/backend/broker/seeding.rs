//! Port that loads rooms from the database into the broker of a cluster.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::backend::Unavailable;
use crate::domain::{ChatroomId, HostId, MessageId, RoomName, RoomState, Seq, Side};

/// State from which the broker creates a room. The caller reads it from the database while it holds a [`Ticket`].
#[derive(Clone, Debug)]
pub struct Seed {
    /// Row id of the room.
    pub chatroom: ChatroomId,
    /// Row id of the room's host.
    pub host: HostId,
    /// State of the room.
    pub state: RoomState,
    /// Version of `state`.
    pub version: u64,
    /// Highest sequence number in the database.
    pub seq: Seq,
    /// Broker epoch in which `seq` was assigned. If it differs from the current epoch, the next sequence number skips
    /// ahead.
    pub epoch: Option<String>,
    /// Time at which the newest message was accepted. For a room without messages, the time at which the room was
    /// created.
    pub last_at: DateTime<Utc>,
    /// Side, id and sequence number of each of the newest messages, for deduplication.
    pub ids: Vec<(Side, MessageId, Seq)>,
}

/// Permission to seed one room. It expires after a few seconds. A change of the room's state revokes it.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// Random token that identifies the ticket.
    pub token: String,
    /// Current epoch of the room's partition; `None` if none has begun. A new epoch begins when Redis may have lost
    /// writes, for example in a failover, so messages of earlier epochs may be lost.
    pub epoch: Option<String>,
}

/// Port for the seeding of rooms. A single-node server does not implement the port, because its broker reads rooms
/// directly from the database.
#[async_trait]
pub trait Seeding: Send + Sync + 'static {
    /// Returns the row ids of a room and of its host. Returns `None` if the broker does not have the room, or only its
    /// tombstone.
    async fn row_ids(&self, room: RoomName) -> Result<Option<(ChatroomId, HostId)>, Unavailable>;

    /// Requests a ticket to seed a room. Returns `None` if a ticket for the room already exists or the broker has the
    /// room.
    async fn begin_seed(&self, room: RoomName) -> Result<Option<Ticket>, Unavailable>;

    /// Creates a room from `seed`. Returns `false` if the ticket expired or a change of the room's state revoked it.
    /// The caller must then call [`begin_seed`](Self::begin_seed) again.
    async fn finish_seed(&self, room: RoomName, ticket: Ticket, seed: Seed) -> Result<bool, Unavailable>;

    /// Marks a room as deleted. The caller found no row for the room in the database.
    async fn mark_deleted(&self, room: RoomName) -> Result<(), Unavailable>;
}
