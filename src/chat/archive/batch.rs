//! Writes one batch to the database and removes it from the queue.
//!
//! **Invariant:** before a batch is removed from the queue, each of its entries is committed or dead-lettered, or its
//! room is known to be deleted.

use std::collections::{HashMap, HashSet};

use super::ArchiveError;
use super::archiver::Archiver;
use crate::backend::broker::queue::{ArchiveLease, ArchivedMark, QueueEntry};
use crate::domain::trace::TraceSpan;
use crate::domain::{ChatroomId, Message, RoomKey, RoomName, RoomState, Seq};
use crate::protocol::chat::StoredFrame;
use crate::store::{Archived, BatchRoom, StoreError};

/// Reason stored with a dead letter whose sequence number belongs to another message in the database.
const CONFLICT: &str = "another message has the same sequence number";

/// State version reported for a deleted room. It is higher than any version in the database.
const DELETED_VERSION: u64 = u32::MAX as u64;

/// Queue entries, each with its decoded message.
pub(super) type Batch = Vec<(QueueEntry, Message)>;

impl Archiver {
    /// Writes one batch to the database and removes it from the queue.
    pub(super) async fn write(&self, lease: &ArchiveLease, entries: Vec<QueueEntry>) -> Result<(), ArchiveError> {
        let Some(last) = entries.last().map(|entry| entry.position.clone()) else { return Ok(()) };
        // Dead letters are removed from the queue one by one, so their bytes are subtracted from those of the batch.
        let mut bytes: usize = entries.iter().map(|entry| entry.frame.len()).sum();
        let (mut batch, refused) = self.decode(lease, entries).await?;
        bytes -= refused;
        let mut unowned = self.split_unowned(&mut batch).await?;
        let (archived, refused) = self.commit_or_halve(lease, &batch).await?;
        bytes -= refused + self.dead_letter_conflicts(lease, &batch, &archived).await?;
        let rowless: HashSet<ChatroomId> =
            archived.rooms.iter().filter(|room| !room.exists).map(|room| room.chatroom).collect();
        unowned.extend(
            batch.iter().filter(|(entry, _)| rowless.contains(&entry.chatroom)).map(|(entry, _)| entry.clone()),
        );
        let (deleted, refused) = self.settle_unowned(lease, &unowned).await?;
        bytes -= refused;
        let marks = marks(&batch, &archived, &deleted);
        if self.queue.finish(self.partition, lease, &last, bytes, &marks).await? {
            Ok(())
        } else {
            Err(ArchiveError::LeaseLost)
        }
    }

    /// Decodes entries and dead-letters invalid ones. Returns the decoded batch and the bytes of the invalid entries.
    async fn decode(&self, lease: &ArchiveLease, entries: Vec<QueueEntry>) -> Result<(Batch, usize), ArchiveError> {
        let (mut batch, mut refused) = (Vec::with_capacity(entries.len()), 0);
        for entry in entries {
            let stored = serde_json::from_slice::<StoredFrame<'_>>(&entry.frame).ok();
            match stored.and_then(|stored| stored.into_message(entry.chatroom, entry.accepted_at)) {
                Some(message) => batch.push((entry, message)),
                None => {
                    self.dead_letter(lease, &entry, "not a message").await?;
                    refused += entry.frame.len();
                }
            }
        }
        Ok((batch, refused))
    }

    /// Commits a batch. If the database rejects the batch, commits its halves separately. Returns the bytes of the
    /// dead-lettered entries as the second value.
    async fn commit_or_halve(
        &self,
        lease: &ArchiveLease,
        batch: &[(QueueEntry, Message)],
    ) -> Result<(Archived, usize), ArchiveError> {
        let spans: Vec<TraceSpan> =
            batch.iter().filter_map(|(entry, _)| entry.trace?.child("archive.commit")).collect();
        let committed = self.commit(batch).await;
        for mut span in spans {
            span.note("pintalk.batch", batch.len() as i64);
            if committed.is_err() {
                span.fail("failed to insert the batch into the database");
            }
        }
        match committed {
            Err(StoreError::Data(_)) => self.commit_halves(lease, batch).await,
            archived => Ok((archived?, 0)),
        }
    }

    /// Dead-letters the entries whose sequence number belongs to another message in the database. Returns the bytes of
    /// these entries.
    async fn dead_letter_conflicts(
        &self,
        lease: &ArchiveLease,
        batch: &[(QueueEntry, Message)],
        archived: &Archived,
    ) -> Result<usize, ArchiveError> {
        let mut refused = 0;
        for (entry, message) in batch {
            if archived.conflicts.contains(&(message.chatroom, message.seq)) {
                self.dead_letter(lease, entry, CONFLICT).await?;
                refused += entry.frame.len();
            }
        }
        Ok(refused)
    }

    async fn commit(&self, batch: &[(QueueEntry, Message)]) -> Result<Archived, StoreError> {
        let messages: Vec<&Message> = batch.iter().map(|(_, message)| message).collect();
        let rooms = rooms_of(batch.iter().map(|(entry, _)| entry));
        let unattended: Vec<(ChatroomId, Seq)> = batch
            .iter()
            .filter(|(entry, _)| entry.unattended)
            .map(|(_, message)| (message.chatroom, message.seq))
            .collect();
        self.store.messages().archive(&messages, &rooms, &unattended).await
    }

    /// Commits a rejected batch in halves, down to single rows. Dead-letters each row that the database rejects.
    /// Returns the bytes of these rows as the second value.
    async fn commit_halves(
        &self,
        lease: &ArchiveLease,
        batch: &[(QueueEntry, Message)],
    ) -> Result<(Archived, usize), ArchiveError> {
        let (mut all, mut refused) = (Archived::default(), 0);
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            match self.commit(part).await {
                Ok(written) => {
                    all.rooms.retain(|room| written.rooms.iter().all(|new| new.chatroom != room.chatroom));
                    all.rooms.extend(written.rooms);
                    all.conflicts.extend(written.conflicts);
                }
                // Halves are committed in order, so that an older state of a room does not replace a newer one.
                Err(StoreError::Data(_)) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(StoreError::Data(why)) => {
                    for (entry, _) in part {
                        self.dead_letter(lease, entry, &why).await?;
                        refused += entry.frame.len();
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok((all, refused))
    }

    /// Moves an entry from the queue to the dead letters.
    pub(super) async fn dead_letter(
        &self,
        lease: &ArchiveLease,
        entry: &QueueEntry,
        why: &str,
    ) -> Result<(), ArchiveError> {
        self.metrics.dead_letters.increment(1);
        tracing::error!(room = %entry.room, position = entry.position, error = why, "message dead-lettered");
        match self.queue.dead_letter(self.partition, lease, &entry.position, why, why == CONFLICT).await? {
            true => Ok(()),
            false => Err(ArchiveError::LeaseLost),
        }
    }
}

/// Returns each room of a batch once, with the Redis epoch of its newest entry.
pub(crate) fn rooms_of<'a>(entries: impl Iterator<Item = &'a QueueEntry>) -> Vec<BatchRoom> {
    let of_entry = |entry: &QueueEntry| {
        let key = RoomKey { name: entry.room, chatroom: entry.chatroom };
        (entry.chatroom, BatchRoom { key, life: entry.epoch.clone() })
    };
    let rooms: HashMap<ChatroomId, BatchRoom> = entries.map(of_entry).collect();
    rooms.into_values().collect()
}

/// Returns the state and the highest sequence number of each room of a batch. Omits rooms without a row, except those
/// whose deletion is recorded in the database.
fn marks(batch: &[(QueueEntry, Message)], archived: &Archived, deleted: &HashSet<RoomName>) -> Vec<ArchivedMark> {
    let mut marks: HashMap<RoomName, ArchivedMark> = HashMap::new();
    for (entry, message) in batch {
        let row = archived.rooms.iter().find(|room| room.chatroom == entry.chatroom);
        let (state, version) = match row {
            Some(row) if row.exists => (row.state, row.state_version),
            Some(_) if deleted.contains(&entry.room) => (RoomState::Deleted, DELETED_VERSION),
            // Nothing was archived: the entries of the room were dead-lettered, or the broker already contains its
            // tombstone.
            _ => continue,
        };
        let stored = row.filter(|row| row.exists).map(|row| row.stored);
        let mark = ArchivedMark { room: entry.room, archived: 0, state, version, stored };
        let mark = marks.entry(entry.room).or_insert(mark);
        mark.archived = mark.archived.max(message.seq);
    }
    marks.into_values().collect()
}
