//! Port through which rooms are brought from SQL into the broker of a cluster.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::Partition;
use crate::backend::Unavailable;
use crate::domain::{ChatroomId, HostId, MessageId, RoomName, RoomState, Seq, Side};

/// State read from SQL under a [`Ticket`], from which the broker creates a room that it does not have.
#[derive(Clone, Debug)]
pub struct Seed {
    /// Row id of the room.
    pub chatroom: ChatroomId,
    /// Row id of its host.
    pub host: HostId,
    /// State of the room.
    pub state: RoomState,
    /// Version of `state`.
    pub version: u64,
    /// Highest number in SQL.
    pub seq: Seq,
    /// Epoch of the broker in which `seq` was assigned. If it is not the current epoch, the next number jumps.
    pub epoch: Option<String>,
    /// Time at which the newest message was accepted, or the room was created.
    pub last_at: DateTime<Utc>,
    /// Ids and numbers of the newest messages.
    pub ids: Vec<(Side, MessageId, Seq)>,
}

/// The right to seed one room, valid for a few seconds. A change of the room's state revokes it.
#[derive(Clone, Debug)]
pub struct Ticket(pub String);

/// Port to the seeding of rooms. A single node has none: its rooms are in SQL.
#[async_trait]
pub trait Seeding: Send + Sync + 'static {
    /// Returns the broker's current epoch; `None` for a driver without epochs. A number assigned in another epoch may
    /// have been lost with it.
    async fn epoch(&self, partition: Partition) -> Result<Option<String>, Unavailable>;

    /// Requests the right to seed a room. Returns `None` if another node holds it, or if the broker has the room.
    async fn begin_seed(&self, room: RoomName) -> Result<Option<Ticket>, Unavailable>;

    /// Creates a room. Returns `false` if the ticket was revoked by a change or has expired: begin again.
    async fn finish_seed(&self, room: RoomName, ticket: Ticket, seed: Seed) -> Result<bool, Unavailable>;

    /// Marks a room as deleted, because SQL has no row of it.
    async fn mark_deleted(&self, room: RoomName) -> Result<(), Unavailable>;
}
