//! Handles queue entries whose room has no row: either the room was deleted, or the database was restored to a state
//! without the room.

use std::collections::{HashMap, HashSet};

use super::ArchiveError;
use super::archiver::Archiver;
use super::batch::Batch;
use crate::backend::broker::queue::{ArchiveLease, Lost, QueueEntry};
use crate::domain::{ChatroomId, RoomKey, RoomName};
use crate::store::StoreError;

/// Reason stored with a dead letter whose room has no row with its id and name.
const LOST: &str = "room missing from the database";

impl Archiver {
    /// Handles rooms with the same chatroom id. Removes from the batch the entries of all rooms except the one that
    /// owns the row of that id. Returns the removed entries.
    pub(super) async fn split_unowned(&self, batch: &mut Batch) -> Result<Vec<QueueEntry>, StoreError> {
        let mut names: HashMap<ChatroomId, RoomName> = HashMap::new();
        let mut shared: HashSet<ChatroomId> = HashSet::new();
        for (entry, _) in &*batch {
            if *names.entry(entry.chatroom).or_insert(entry.room) != entry.room {
                shared.insert(entry.chatroom);
            }
        }
        let mut unowned = Vec::new();
        for chatroom in shared {
            let owner = self.store.rooms().get(chatroom).await?.map(|room| room.name);
            batch.retain(|(entry, _)| {
                let stays = entry.chatroom != chatroom || Some(entry.room) == owner;
                if !stays {
                    unowned.push(entry.clone());
                }
                stays
            });
        }
        Ok(unowned)
    }

    /// Handles entries whose room has no row with its id and name. If the deletion of the room is recorded in the
    /// database or the broker, the entries are dropped. Otherwise they are dead-lettered, together with all messages of
    /// the room that the broker still contains. Returns the rooms whose deletion is recorded in the database, and the
    /// bytes of the individually dead-lettered entries.
    pub(super) async fn settle_unowned(
        &self,
        lease: &ArchiveLease,
        entries: &[QueueEntry],
    ) -> Result<(HashSet<RoomName>, usize), ArchiveError> {
        let (mut deleted, mut refused) = (HashSet::new(), 0);
        let mut settled: HashMap<(RoomName, ChatroomId), bool> = HashMap::new();
        for entry in entries {
            let key = RoomKey { name: entry.room, chatroom: entry.chatroom };
            let is_covered = match settled.get(&(entry.room, entry.chatroom)) {
                Some(is_covered) => *is_covered,
                None => {
                    let is_covered = self.settle_room(key, &mut deleted).await?;
                    settled.insert((entry.room, entry.chatroom), is_covered);
                    is_covered
                }
            };
            if !is_covered {
                self.dead_letter(lease, entry, LOST).await?;
                refused += entry.frame.len();
            }
        }
        Ok((deleted, refused))
    }

    /// Handles a room without a row. If it was not deleted, dead-letters the messages that the broker still contains.
    /// Returns `false` if the broker contains no messages of the room, or contains it with another id. The caller must
    /// then dead-letter the entries.
    async fn settle_room(&self, room: RoomKey, deleted: &mut HashSet<RoomName>) -> Result<bool, ArchiveError> {
        // The database is read before the broker. An event is removed from the database only after the broker has
        // stored the tombstone, so a deletion is found in at least one of them.
        if self.store.rooms().is_being_deleted(room.name).await? {
            deleted.insert(room.name);
            return Ok(true);
        }
        let has_other_row = self.store.rooms().by_name(room.name).await?.is_some();
        match self.queue.remove_lost_room(room.name, room.chatroom, LOST, has_other_row).await? {
            Lost::Deleted => Ok(true),
            Lost::Now(messages) if messages > 0 => {
                self.metrics.dead_letters.increment(messages);
                tracing::error!(room = %room.name, chatroom = room.chatroom.0, messages, "room missing from sql, messages dead-lettered");
                Ok(true)
            }
            Lost::Now(_) | Lost::Other => Ok(false),
        }
    }
}
