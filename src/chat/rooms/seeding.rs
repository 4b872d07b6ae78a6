//! Seeds the broker on demand with rooms from the database.

use std::sync::Arc;
use std::time::Duration;

use super::{RoomError, Rooms};
use crate::backend::broker::{MemberCounts, RoomStatus, Seed, Seeding, Ticket};
use crate::domain::{MessageId, Room, RoomName, Seq, Side};

/// Number of newest message ids that the broker keeps per room.
const IDS: u64 = 2_000;

/// Delay before a room is checked again while another node seeds it.
const WAIT: Duration = Duration::from_millis(30);

/// Maximum number of checks. Their total duration exceeds the validity of a seeding ticket.
const ATTEMPTS: u32 = 400;

impl Rooms {
    /// Seeds the broker with a room from the database or, if the room does not exist, with a tombstone. If the broker
    /// already contains the room or another node is seeding it, this method only waits briefly. The caller must then
    /// check the room again.
    ///
    /// # Errors
    /// Returns [`RoomError::NotFound`] if the room does not exist, or [`RoomError::Unavailable`].
    pub async fn seed(&self, name: RoomName) -> Result<(), RoomError> {
        let begun = match &self.seeding {
            Some(seeding) => seeding.begin_seed(name).await?.map(|ticket| (seeding, ticket)),
            None => None,
        };
        let Some((seeding, ticket)) = begun else {
            tokio::time::sleep(WAIT).await;
            return Ok(());
        };
        let Some(room) = self.store.rooms().by_name(name).await? else {
            seeding.mark_deleted(name).await?;
            return Err(RoomError::NotFound);
        };
        let ids = match room.last_seq {
            0 => Vec::new(),
            _ => self.store.messages().newest_ids(room.id, IDS).await?,
        };
        // If the ticket has expired or was revoked, the call seeds nothing. The caller checks the room again in any
        // case.
        seeding.finish_seed(name, ticket, seed_of(&room, ids)).await?;
        Ok(())
    }

    /// Requests the ticket to seed a room that does not exist yet. Without a ticket, the room is seeded on demand, and
    /// its first sequence number leaves a gap, which is harmless.
    pub(super) async fn ticket_of_new(&self, name: RoomName) -> Option<NewRoomTicket> {
        let seeding = self.seeding.clone()?;
        match seeding.begin_seed(name).await {
            Ok(ticket) => ticket.map(|ticket| NewRoomTicket { seeding, ticket }),
            Err(error) => {
                tracing::debug!(%error, room = %name, "failed to request ticket for new room");
                None
            }
        }
    }

    /// Reports this node's connection counts in a room, and seeds the room if necessary. Returns the status of the
    /// room.
    ///
    /// # Errors
    /// Returns [`RoomError::NotFound`] if the room does not exist, or [`RoomError::Unavailable`].
    pub async fn enter(&self, name: RoomName, counts: MemberCounts) -> Result<RoomStatus, RoomError> {
        for _ in 0..ATTEMPTS {
            match self.states.set_counts(name, counts).await? {
                Some(status) => return Ok(status),
                None if self.seeding.is_none() => return Err(RoomError::NotFound),
                None => self.seed(name).await?,
            }
        }
        Err(RoomError::Unavailable("the room is still being loaded into the broker".into()))
    }
}

/// Ticket to seed a new room. It is requested before the room is committed to the database. If another node applies a
/// change to the room in the meantime, the ticket is revoked.
pub(super) struct NewRoomTicket {
    seeding: Arc<dyn Seeding>,
    ticket: Ticket,
}

impl NewRoomTicket {
    /// Returns the epoch in which the room is created.
    pub(super) fn epoch(&self) -> Option<String> {
        self.ticket.epoch.clone()
    }

    /// Seeds the room, which has no message. If the call fails, the room is seeded on demand.
    pub(super) async fn seed(self, room: &Room) {
        if let Err(error) = self.seeding.finish_seed(room.name, self.ticket, seed_of(room, Vec::new())).await {
            tracing::debug!(%error, room = %room.name, "failed to seed new room");
        }
    }
}

fn seed_of(room: &Room, ids: Vec<(Side, MessageId, Seq)>) -> Seed {
    Seed {
        chatroom: room.id,
        host: room.host,
        state: room.state(),
        version: room.state_version,
        seq: room.last_seq,
        ids,
        epoch: room.last_epoch.clone(),
        last_at: room.latest_msg_at.unwrap_or(room.created_at),
    }
}
