//! Seeds the broker on demand with rooms from the database.

use std::time::Duration;

use super::{RoomError, Rooms};
use crate::backend::broker::{LogEntry, MemberCounts, RoomStatus, Seed};
use crate::domain::RoomName;

/// Number of newest message ids that the broker keeps per room.
const IDS: u64 = 2_000;

/// Delay before a room is checked again while another node seeds it.
const WAIT: Duration = Duration::from_millis(30);

/// Maximum number of checks. Their total duration exceeds the validity of a seeding ticket.
const ATTEMPTS: u32 = 400;

impl Rooms {
    /// Ensures that the broker contains the room or, if it was deleted, its tombstone.
    ///
    /// # Errors
    /// Returns [`RoomError::NotFound`] if the room does not exist, or [`RoomError::Unavailable`].
    pub async fn seed(&self, name: RoomName) -> Result<(), RoomError> {
        let begun = match &self.seeding {
            Some(seeding) => seeding.begin_seed(name).await?.map(|ticket| (seeding, ticket)),
            None => None,
        };
        let Some((seeding, ticket)) = begun else {
            // The broker already contains the room, or another node is seeding it. After the delay, the caller checks
            // the room again.
            tokio::time::sleep(WAIT).await;
            return Ok(());
        };
        let Some(room) = self.store.rooms().by_name(name).await? else {
            seeding.mark_deleted(name).await?;
            return Err(RoomError::NotFound);
        };
        let seed = Seed {
            chatroom: room.id,
            host: room.host,
            state: room.state(),
            version: room.state_version,
            seq: room.last_seq,
            ids: self.store.messages().newest_ids(room.id, IDS).await?,
            epoch: room.last_epoch,
            last_at: room.latest_msg_at.unwrap_or(room.created_at),
        };
        // If the ticket is no longer valid, the room has changed since, and the caller checks the room again.
        seeding.finish_seed(name, ticket, seed).await?;
        Ok(())
    }

    /// Sets the number of connections of this node in a room, and seeds the room if necessary. Returns the status of
    /// the room and its newest log entries, at most `newest`, newest first.
    ///
    /// # Errors
    /// Returns [`RoomError::NotFound`] if the room does not exist, or [`RoomError::Unavailable`].
    pub async fn enter(
        &self,
        name: RoomName,
        counts: MemberCounts,
        newest: usize,
    ) -> Result<(RoomStatus, Vec<LogEntry>), RoomError> {
        for _ in 0..ATTEMPTS {
            match self.states.enter(name, counts, newest).await? {
                Some(entered) => return Ok(entered),
                None if self.seeding.is_none() => return Err(RoomError::NotFound),
                None => self.seed(name).await?,
            }
        }
        Err(RoomError::Unavailable("the room is being brought from SQL".into()))
    }
}
