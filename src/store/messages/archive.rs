//! Archiving: stores messages that the broker has accepted. Every call is idempotent.

use std::borrow::Borrow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait as _, DatabaseTransaction, DbErr, DerivePartialModel, EntityTrait,
    QueryFilter, QueryOrder, QuerySelect, Statement,
};

use crate::domain::{ChatroomId, Message, RoomKey, RoomState, Seq};
use crate::store::counts::Counts;
use crate::store::entity::{chat_message, chatroom};
use crate::store::messages::advance::{Advance, advance_rooms, insert_messages};
use crate::store::unattended::{Contact, UnattendedRooms};
use crate::store::webhooks::events::{Events, Subject};
use crate::store::{Dialect, MessageRepository, StoreError, from_column, millis, to_column};

/// State of a room of an archived batch, read while the room is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchivedRoom {
    /// Id of the room.
    pub chatroom: ChatroomId,
    /// Whether a row with this id and name exists. If not, the messages were not written.
    pub exists: bool,
    /// State of the room. `Deleted` if there is no such row.
    pub state: RoomState,
    /// Version of the state. 0 if there is no such row.
    pub state_version: u64,
    /// Highest sequence number in the database before the batch. 0 if there is no such row.
    pub stored: Seq,
}

/// A room of a batch, as stored in the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRoom {
    /// Id and name of the room. A row with the same id and another name does not match.
    pub key: RoomKey,
    /// Redis epoch in which the room's newest message of the batch was accepted.
    pub life: String,
}

/// Result of archiving a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archived {
    /// Every room of the batch, by ascending id.
    pub rooms: Vec<ArchivedRoom>,
    /// Messages that were not written because another message has their sequence number. The caller must report and
    /// dead-letter each of these messages.
    pub conflicts: Vec<(ChatroomId, Seq)>,
}

/// Messages of a batch, by room and sequence number.
type Batch<'a> = BTreeMap<i64, BTreeMap<i64, &'a Message>>;

impl MessageRepository<'_> {
    /// Writes a batch of accepted messages of any rooms in one transaction. Updates the rooms: `last_seq` never
    /// decreases, and `latest_msg` is replaced only by a newer message. Messages that retention has purged are not
    /// written again. Idempotent.
    ///
    /// `rooms` contains each room of the batch once. `unattended` lists the messages whose recipient had no connection
    /// in the room and may have to be e-mailed. Events for hosts' webhooks are written in the same transaction.
    ///
    /// # Errors
    /// Returns `Data` if a row can never be written. In that case, no part of the batch was written.
    pub async fn archive(
        self,
        messages: &[impl Borrow<Message>],
        rooms: &[BatchRoom],
        unattended: &[(ChatroomId, Seq)],
    ) -> Result<Archived, StoreError> {
        if messages.is_empty() {
            return Ok(Archived::default());
        }
        let messages: &Vec<&Message> = &messages.iter().map(Borrow::borrow).collect();
        let of_batch: &HashMap<i64, &BatchRoom> = &rooms.iter().map(|room| (room.key.chatroom.0, room)).collect();
        let unattended: &HashSet<(ChatroomId, Seq)> = &unattended.iter().copied().collect();
        self.store.run("archive", || self.archive_once(messages, of_batch, unattended)).await
    }

    /// Returns the maximum size in bytes of one statement with its values: `max_allowed_packet` of MySQL. After a
    /// larger statement, the server closes the connection, usually without an error.
    pub async fn max_statement_bytes(self) -> Result<usize, StoreError> {
        if self.store.dialect() == Dialect::Sqlite {
            return Ok(usize::MAX);
        }
        let select = "SELECT CAST(@@max_allowed_packet AS SIGNED)";
        let statement = Statement::from_string(self.store.reader.get_database_backend(), select);
        let row = self.store.run("archive", || self.store.reader.query_one_raw(statement.clone())).await?;
        let bytes: Option<i64> = row.map(|row| row.try_get_by_index(0)).transpose()?;
        Ok(bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX))
    }

    async fn archive_once(
        self,
        messages: &[&Message],
        of_batch: &HashMap<i64, &BatchRoom>,
        unattended: &HashSet<(ChatroomId, Seq)>,
    ) -> Result<Archived, DbErr> {
        let (mut batch, mut conflicts) = group(messages);
        let tx = self.store.begin_batch().await?;
        let mut rooms = lock_rooms(&tx, batch.keys().copied()).await?;
        // After a restore of the database, a row may belong to a room other than the one with the same id in the
        // broker. Such rows are skipped.
        rooms
            .retain(|id, room| of_batch.get(id).is_none_or(|of_batch| of_batch.key.name.as_str() == room.subject.name));

        // Messages of rooms without a row are skipped, and purged messages are not written again.
        batch.retain(|id, of_room| {
            let Some(room) = rooms.get(id) else { return false };
            of_room.retain(|seq, _| *seq > room.purged_through);
            true
        });
        drop_known(&tx, &rooms, &mut batch, &mut conflicts).await?;

        count(&tx, &mut rooms, &batch).await?;
        let advances: Vec<_> =
            batch.iter().filter_map(|(id, new)| self.advance(*id, rooms.get(id)?, new, of_batch)).collect();
        advance_rooms(&tx, &advances).await?;
        let rows: Vec<&Message> = batch.values().flat_map(BTreeMap::values).copied().collect();
        insert_messages(&tx, &rows).await?;
        let mut missed = UnattendedRooms::default();
        for message in rows.iter().filter(|message| unattended.contains(&(message.chatroom, message.seq))) {
            if let Some(room) = rooms.get(&message.chatroom.0) {
                missed.add(message, &room.contact, room.counts.seen());
            }
        }
        missed.write(&tx, |at| self.store.due_from(at)).await?;
        let mut events = Events::due_from(|at| self.store.due_from(at));
        for message in &rows {
            if let Some(room) = rooms.get(&message.chatroom.0) {
                events.message(message, &room.subject);
            }
        }
        events.write(&tx).await?;
        tx.commit().await?;

        let mut ids: Vec<i64> = messages.iter().map(|message| message.chatroom.0).collect();
        ids.sort_unstable();
        ids.dedup();
        let rooms = ids.into_iter().map(|id| archived_room(id, rooms.get(&id))).collect();
        Ok(Archived { rooms, conflicts })
    }

    /// Returns the new values of the room row, or `None` if the batch contains no newer message than the row.
    fn advance<'a>(
        self,
        id: i64,
        room: &ArchiveRoom,
        new: &BTreeMap<i64, &'a Message>,
        of_batch: &HashMap<i64, &'a BatchRoom>,
    ) -> Option<Advance<'a>> {
        let (&last_seq, &newest) = new.last_key_value().filter(|(seq, _)| **seq > room.last_seq)?;
        let accepted_at = millis(newest.accepted_at);
        Some(Advance {
            id,
            last_seq,
            latest_msg: &newest.text,
            latest_msg_at: accepted_at,
            // The time is limited to the current time, because a time in the future would keep the room at the top of
            // the host's list.
            updated_at: room.updated_at.max(accepted_at.min(self.store.due_from(accepted_at))),
            last_epoch: of_batch.get(&id).map(|room| room.life.as_str()),
            counts: room.counts,
        })
    }
}

/// Groups a batch by room and sequence number. If two different messages have the same number, the batch contains the
/// first one, and the second result lists the other one.
fn group<'a>(messages: &[&'a Message]) -> (Batch<'a>, Vec<(ChatroomId, Seq)>) {
    let (mut batch, mut conflicts) = (Batch::new(), Vec::new());
    for &message in messages {
        match batch.entry(message.chatroom.0).or_default().entry(to_column(message.seq)) {
            Entry::Vacant(free) => {
                free.insert(message);
            }
            Entry::Occupied(first) if first.get().id == message.id && first.get().side == message.side => {}
            Entry::Occupied(_) => conflicts.push((message.chatroom, message.seq)),
        }
    }
    (batch, conflicts)
}

/// Columns of a room that the archiver reads while the room is locked.
#[derive(DerivePartialModel)]
#[sea_orm(entity = "chatroom::Entity")]
struct ArchiveRoom {
    id: i64,
    is_closed: bool,
    state_version: i64,
    last_seq: i64,
    purged_through: i64,
    updated_at: DateTime<Utc>,
    #[sea_orm(nested)]
    counts: Counts,
    #[sea_orm(nested)]
    contact: Contact,
    #[sea_orm(nested)]
    subject: Subject,
}

/// Locks the rooms in the order of their ids and returns them.
async fn lock_rooms(
    tx: &DatabaseTransaction,
    ids: impl IntoIterator<Item = i64>,
) -> Result<BTreeMap<i64, ArchiveRoom>, DbErr> {
    let mut ids: Vec<i64> = ids.into_iter().collect();
    // Repeats the last id up to a power of two, so that the server prepares few different statements.
    if let Some(last) = ids.last().copied() {
        ids.resize(ids.len().next_power_of_two(), last);
    }
    let rows: Vec<ArchiveRoom> = chatroom::Entity::find()
        .filter(chatroom::Column::Id.is_in(ids))
        .order_by_asc(chatroom::Column::Id)
        .lock_exclusive()
        .into_partial_model()
        .all(tx)
        .await?;
    Ok(rows.into_iter().map(|room| (room.id, room)).collect())
}

/// Adds the batch to the counts. Also writes the counts of rooms for which the batch has no newer message than the row,
/// because `advance_rooms` skips these rooms.
async fn count(
    tx: &DatabaseTransaction,
    rooms: &mut BTreeMap<i64, ArchiveRoom>,
    batch: &Batch<'_>,
) -> Result<(), DbErr> {
    for (id, new) in batch {
        let (Some(room), Some((newest, _))) = (rooms.get_mut(id), new.last_key_value()) else { continue };
        room.counts.catch_up(tx, *id, room.last_seq, room.purged_through).await?;
        new.values().for_each(|message| room.counts.add(message));
        if *newest <= room.last_seq {
            room.counts.write(tx, *id).await?;
        }
    }
    Ok(())
}

/// Removes from the batch the messages that are already stored in the database. Only messages up to the `last_seq` of
/// their room can already be stored. If the batch contains no such message, no query runs.
async fn drop_known(
    tx: &DatabaseTransaction,
    rooms: &BTreeMap<i64, ArchiveRoom>,
    batch: &mut Batch<'_>,
    conflicts: &mut Vec<(ChatroomId, Seq)>,
) -> Result<(), DbErr> {
    let mut doubtful = Condition::any();
    for (id, of_room) in batch.iter() {
        let last_seq = rooms.get(id).map_or(0, |room| room.last_seq);
        let seqs: Vec<i64> = of_room.range(..=last_seq).map(|(seq, _)| *seq).collect();
        if !seqs.is_empty() {
            doubtful = doubtful.add(
                Condition::all()
                    .add(chat_message::Column::ChatroomId.eq(*id))
                    .add(chat_message::Column::Seq.is_in(seqs)),
            );
        }
    }
    if doubtful.is_empty() {
        return Ok(());
    }
    let known: Vec<(i64, i64, bool, String)> = chat_message::Entity::find()
        .select_only()
        .columns([
            chat_message::Column::ChatroomId,
            chat_message::Column::Seq,
            chat_message::Column::IsHost,
            chat_message::Column::MessageId,
        ])
        .filter(doubtful)
        .into_tuple()
        .all(tx)
        .await?;
    for (room, seq, is_host, id) in known {
        if let Some(message) = batch.get_mut(&room).and_then(|of_room| of_room.remove(&seq))
            && (message.id.as_str() != id || message.side.is_host() != is_host)
        {
            conflicts.push((message.chatroom, message.seq));
        }
    }
    Ok(())
}

fn archived_room(id: i64, room: Option<&ArchiveRoom>) -> ArchivedRoom {
    let state = match room {
        Some(room) if room.is_closed => RoomState::Closed,
        Some(_) => RoomState::Open,
        None => RoomState::Deleted,
    };
    ArchivedRoom {
        chatroom: ChatroomId(id),
        exists: room.is_some(),
        state,
        state_version: room.map_or(0, |room| from_column(room.state_version)),
        stored: room.map_or(0, |room| from_column(room.last_seq)),
    }
}
