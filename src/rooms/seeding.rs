//! Brings a room from SQL into the broker when it is needed there.

use std::time::Duration;

use super::{RoomError, Rooms};
use crate::broker::{LogEntry, MemberCounts, RoomStatus, Seed};
use crate::domain::RoomName;

/// How many of the newest messages' ids the broker remembers of a room.
const IDS: u64 = 2_000;

/// How long another node's seeding is waited for before looking again.
const WAIT: Duration = Duration::from_millis(30);

/// How often it is looked again: together longer than the right to seed lasts.
const ATTEMPTS: u32 = 400;

impl Rooms {
    /// Makes sure that the broker has a room, or knows that it was deleted.
    ///
    /// # Errors
    /// [`RoomError::NotFound`] if there is no such room; [`RoomError::Unavailable`].
    pub async fn seed(&self, name: RoomName) -> Result<(), RoomError> {
        let Some(ticket) = self.broker.begin_seed(name).await? else {
            // It is there, or somebody is at it.
            tokio::time::sleep(WAIT).await;
            return Ok(());
        };
        let Some(room) = self.store.room_by_name(name).await? else {
            self.broker.bury(name).await?;
            return Err(RoomError::NotFound);
        };
        let seed = Seed {
            chatroom: room.id,
            host: room.host,
            state: room.state(),
            version: room.state_version,
            seq: room.last_seq,
            ids: self.store.newest_ids(room.id, IDS).await?,
            life: room.last_life,
            last_at: room.latest_msg_at.unwrap_or(room.created_at),
        };
        // Without the ticket somebody changed the room meanwhile: whoever asked looks again.
        self.broker.finish_seed(name, ticket, seed).await?;
        Ok(())
    }

    /// Sets how many connections of this node are in a room, seeding the room if necessary. Returns its status and the newest
    /// entries of the broker's log, descending, at most `newest`.
    ///
    /// # Errors
    /// [`RoomError::NotFound`] if there is no such room; [`RoomError::Unavailable`].
    pub async fn enter(
        &self,
        name: RoomName,
        counts: MemberCounts,
        newest: usize,
    ) -> Result<(RoomStatus, Vec<LogEntry>), RoomError> {
        for _ in 0..ATTEMPTS {
            match self.broker.enter(name, counts, newest).await? {
                Some(entered) => return Ok(entered),
                None if self.broker.archive_queue().is_none() => return Err(RoomError::NotFound),
                None => self.seed(name).await?,
            }
        }
        Err(RoomError::Unavailable("the room is being brought from SQL".into()))
    }
}
