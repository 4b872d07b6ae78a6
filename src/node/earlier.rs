//! Migrates the Redis keys of earlier releases, which had no installation ids.
//!
//! The nodes of the earlier release must be stopped. They use other keys, so nodes of both releases would assign the
//! same sequence numbers to different messages. Every step is idempotent and may run on several nodes at once: rows are
//! keyed by room and sequence number. An entry is removed only if it was archived or dead-lettered, or if its room was
//! deleted by the host.
//!
//! **Invariant:** a room is archived or removed only if its name and id match a row of this database, or if the host
//! deleted the room. Other keys in the same Redis are not changed.

use std::collections::{HashMap, HashSet};

use crate::backend::Unavailable;
use crate::backend::broker::Partition;
use crate::backend::broker::queue::QueueEntry;
use crate::backend::redis::Redis;
use crate::backend::redis::broker::earlier::{EarlierKeys, Fields, PARTITIONS};
use crate::chat::archive::rooms_of;
use crate::chat::metrics::ArchiveMetrics;
use crate::domain::{ChatroomId, Message, RoomName};
use crate::protocol::chat::StoredFrame;
use crate::store::{Store, StoreError};

/// Returns an error if nodes of the earlier release hold leases.
pub(super) async fn wait_for_nodes(redis: &Redis) -> Result<(), Unavailable> {
    match redis.earlier_nodes().await? {
        0 => Ok(()),
        running => Err(Unavailable(
            format!("{running} nodes of an earlier release are running on this redis: stop all of them").into(),
        )),
    }
}

/// Archives the queues of the earlier release and removes its keys. Returns at once if there are no such keys.
pub(super) async fn take_over(redis: &Redis, store: &Store) -> Result<(), Unavailable> {
    // The check is repeated, because a node of the earlier release may have started since the first one.
    wait_for_nodes(redis).await?;
    let keys = EarlierKeys::new(redis);
    let mut known = Vec::new();
    for partition in (0..PARTITIONS).map(Partition) {
        if keys.is_known(partition).await? {
            known.push(partition);
        }
    }
    if known.is_empty() {
        return Ok(());
    }
    tracing::info!("migrating messages of an earlier release");
    let mut taken = Taken { keys, store, archived: 0, rooms: 0, left: 0, metrics: ArchiveMetrics::default() };
    for partition in known {
        taken.archive_queue(partition).await?;
        taken.move_dead_letters(partition).await?;
        taken.remove_rooms(partition).await?;
        if keys.is_empty(partition).await? {
            keys.close(partition).await?;
        }
    }
    let Taken { archived, rooms, left, .. } = taken;
    let complete = left == 0;
    if complete {
        for host in keys.hosts().await? {
            if store.hosts().by_uuid(host).await?.is_some() {
                keys.remove_host(host).await?;
            }
        }
        keys.close_shared().await?;
    } else {
        tracing::error!(
            entries = left,
            "messages of an earlier release not migrated: rooms missing from sql; entries kept in the old queues"
        );
    }
    tracing::info!(messages = archived, rooms, complete, "migrated messages of an earlier release");
    Ok(())
}

struct Taken<'a> {
    keys: EarlierKeys<'a>,
    store: &'a Store,
    archived: u64,
    rooms: u64,
    /// Number of queue entries that match no row of this database.
    left: u64,
    metrics: ArchiveMetrics,
}

impl Taken<'_> {
    async fn archive_queue(&mut self, partition: Partition) -> Result<(), Unavailable> {
        let mut after = "0-0".to_owned();
        loop {
            let entries = self.keys.queue(partition, &after).await?;
            let Some(last) = entries.last() else { return Ok(()) };
            after.clone_from(&last.position);
            let rows = self.rows(entries.iter().map(|entry| entry.room)).await?;
            let (own, other): (Vec<QueueEntry>, Vec<QueueEntry>) =
                entries.into_iter().partition(|entry| rows.get(&entry.room) == Some(&entry.chatroom));
            let mut done = self.archive(own).await?;
            for entry in other {
                if self.is_deleted(partition, entry.room).await? {
                    done.push(entry.position);
                } else {
                    self.left += 1;
                }
            }
            self.keys.remove(partition, "queue", done).await?;
        }
    }

    /// Archives a part of a queue. Dead-letters a message that the database rejects. Returns the positions of the
    /// entries that may be removed.
    async fn archive(&mut self, entries: Vec<QueueEntry>) -> Result<Vec<String>, Unavailable> {
        let mut settled = Vec::with_capacity(entries.len());
        let mut batch = Vec::with_capacity(entries.len());
        for entry in entries {
            let stored = serde_json::from_slice::<StoredFrame<'_>>(&entry.frame).ok();
            match stored.and_then(|stored| stored.into_message(entry.chatroom, entry.accepted_at)) {
                Some(message) => batch.push((entry, message)),
                None => {
                    self.dead_letter(&entry, "not a message").await?;
                    settled.push(entry.position);
                }
            }
        }
        let whole = self.commit(&batch).await;
        let refused = match whole {
            Ok(conflicts) => conflicts,
            Err(StoreError::Data(_)) => {
                let mut refused = HashSet::new();
                for one in &batch {
                    match self.commit(std::slice::from_ref(one)).await {
                        Ok(conflicts) => refused.extend(conflicts),
                        Err(StoreError::Data(_)) => _ = refused.insert((one.1.chatroom, one.1.seq)),
                        Err(error) => return Err(error.into()),
                    }
                }
                refused
            }
            Err(error) => return Err(error.into()),
        };
        for (entry, message) in batch {
            if refused.contains(&(message.chatroom, message.seq)) {
                self.dead_letter(&entry, "refused by sql").await?;
            } else {
                self.archived += 1;
            }
            settled.push(entry.position);
        }
        Ok(settled)
    }

    /// Inserts a batch of messages into the database. Returns the chatroom id and sequence number of each message whose
    /// sequence number belongs to another message.
    async fn commit(&self, batch: &[(QueueEntry, Message)]) -> Result<HashSet<(ChatroomId, u64)>, StoreError> {
        let messages: Vec<Message> = batch.iter().map(|(_, message)| message.clone()).collect();
        let rooms = rooms_of(batch.iter().map(|(entry, _)| entry));
        let unattended: Vec<_> = batch.iter().map(|(_, message)| (message.chatroom, message.seq)).collect();
        Ok(self.store.messages().archive(&messages, &rooms, &unattended).await?.conflicts.into_iter().collect())
    }

    async fn dead_letter(&self, entry: &QueueEntry, why: &str) -> Result<(), Unavailable> {
        self.metrics.dead_letters.increment(1);
        tracing::error!(room = %entry.room, position = entry.position, error = why, "message dead-lettered");
        let fields: Fields = [
            ("n", entry.room.to_string()),
            ("i", entry.chatroom.0.to_string()),
            ("l", entry.epoch.clone()),
            ("a", entry.accepted_at.timestamp_millis().to_string()),
            ("why", why.to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .chain([("f".to_owned(), entry.frame.clone())])
        .collect();
        self.keys.add_dead_letter(entry.room, &fields).await
    }

    async fn move_dead_letters(&self, partition: Partition) -> Result<(), Unavailable> {
        let mut after = "0-0".to_owned();
        loop {
            let letters = self.keys.dead_letters(partition, &after).await?;
            let Some((last, _)) = letters.last() else { return Ok(()) };
            after.clone_from(last);
            let rooms: Vec<Option<RoomName>> = letters.iter().map(|(_, fields)| room_of(fields)).collect();
            let rows = self.rows(rooms.iter().copied().flatten()).await?;
            let mut moved = Vec::new();
            for ((position, fields), room) in letters.into_iter().zip(rooms) {
                if let Some(room) = room.filter(|room| rows.contains_key(room)) {
                    self.keys.add_dead_letter(room, &fields).await?;
                    moved.push(position);
                }
            }
            self.keys.remove(partition, "dead", moved).await?;
        }
    }

    async fn remove_rooms(&mut self, partition: Partition) -> Result<(), Unavailable> {
        let mut cursor = Some("0".to_owned());
        while let Some(from) = cursor {
            let (rooms, next) = self.keys.rooms(partition, &from).await?;
            let rows = self.rows(rooms.iter().copied()).await?;
            for room in rooms {
                let is_own = match rows.get(&room) {
                    Some(row) => self.keys.chatroom(partition, room).await?.is_none_or(|chatroom| chatroom == row.0),
                    None => self.is_deleted(partition, room).await?,
                };
                if is_own {
                    self.keys.remove_room(partition, room).await?;
                    self.rooms += 1;
                }
            }
            cursor = next;
        }
        Ok(())
    }

    /// Returns whether a room without a row was deleted by its host.
    async fn is_deleted(&self, partition: Partition, room: RoomName) -> Result<bool, Unavailable> {
        Ok(self.keys.is_deleted(partition, room).await? || self.store.rooms().is_being_deleted(room).await?)
    }

    /// Returns the row ids of those rooms that are in this database.
    async fn rows(&self, rooms: impl Iterator<Item = RoomName>) -> Result<HashMap<RoomName, ChatroomId>, Unavailable> {
        let mut names: Vec<RoomName> = rooms.collect();
        names.sort_unstable();
        names.dedup();
        let rows = self.store.rooms().by_names(&names).await?;
        Ok(rows.into_iter().map(|row| (row.name, row.id)).collect())
    }
}

fn room_of(fields: &Fields) -> Option<RoomName> {
    let (_, name) = fields.iter().find(|(field, _)| field == "n")?;
    RoomName::from_bytes(name).ok()
}

#[cfg(test)]
mod tests;
