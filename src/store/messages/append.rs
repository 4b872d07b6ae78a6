//! Appends messages for the embedded broker: assigns sequence numbers and writes the messages in one transaction,
//! before they are published.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, DbErr, DerivePartialModel, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};

use crate::domain::{ChatroomId, HostId, Message, MessageId, RoomName, Seq, Side, WallClock, WireOffset};
use crate::store::counts::Counts;
use crate::store::entity::{chat_message, chatroom};
use crate::store::messages::advance::{Advance, advance_rooms, insert_messages};
use crate::store::messages::to_message;
use crate::store::unattended::{Contact, UnattendedRooms};
use crate::store::webhooks::events::{Events, Subject};
use crate::store::{MessageRepository, StoreError, from_column, millis};

/// A message to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Room that receives the message.
    pub room: RoomName,
    /// Side that sent the message.
    pub side: Side,
    /// Id assigned by the client, or by the server if the client assigned none.
    pub id: MessageId,
    /// Text of the message.
    pub text: String,
    /// Wall-clock time written by the sender.
    pub datetime: WallClock,
    /// Whether the other side has no connection in the room and may have to be e-mailed.
    pub unattended: bool,
}

/// Result for one message of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The message is stored under `seq`.
    Accepted {
        /// Id of the room.
        chatroom: ChatroomId,
        /// Host of the room.
        host: HostId,
        /// Highest sequence number of the room before this message.
        prev: Seq,
        /// Sequence number of the message.
        seq: Seq,
    },
    /// The same side has sent this id before.
    Known {
        /// The original message, as stored.
        message: Message,
    },
    /// The room is closed. `Closed` takes precedence over `Known`, because it also notifies the sender's node that the
    /// room is closed.
    Closed,
    /// The room does not exist or has been deleted.
    Deleted,
}

impl MessageRepository<'_> {
    /// Assigns sequence numbers to a batch (ideally up to 64 messages) and stores it in order, in one transaction.
    /// Either the whole batch or nothing is stored. Once this method has returned, accepted messages survive a crash.
    /// Retrying after `Unavailable` is safe, because messages that were stored are then `Known`.
    pub async fn append(self, batch: &[Append], now: DateTime<Utc>) -> Result<Vec<Appended>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.store.run("append", || self.append_once(batch, millis(now))).await
    }

    async fn append_once(self, batch: &[Append], now: DateTime<Utc>) -> Result<Vec<Appended>, DbErr> {
        let tx = self.store.begin_batch().await?;
        let mut rooms = lock_rooms(&tx, batch).await?;
        let mut known = known_messages(&tx, batch, &rooms, self.store.wire).await?;
        let mut accepted: Vec<Message> = Vec::new();
        let mut events = Events::due_from(|at| self.store.due_from(at));
        let mut unattended: HashSet<(ChatroomId, Seq)> = HashSet::new();
        let mut answers = Vec::with_capacity(batch.len());
        for new in batch {
            let Some(room) = rooms.get_mut(new.room.as_str()) else {
                answers.push(Appended::Deleted);
                continue;
            };
            if room.is_closed {
                answers.push(Appended::Closed);
                continue;
            }
            let key = (room.id, new.side, new.id.clone());
            if let Some(message) = known.get(&key) {
                answers.push(Appended::Known { message: message.clone() });
                continue;
            }
            let prev = from_column(room.last_seq);
            room.last_seq += 1;
            let message = Message {
                chatroom: ChatroomId(room.id),
                seq: prev + 1,
                side: new.side,
                text: new.text.clone(),
                datetime: new.datetime.clone(),
                id: new.id.clone(),
                accepted_at: now,
            };
            answers.push(Appended::Accepted {
                chatroom: message.chatroom,
                host: HostId(room.subject.host_id),
                prev,
                seq: message.seq,
            });
            room.counts.add(&message);
            events.message(&message, &room.subject);
            if new.unattended {
                unattended.insert((message.chatroom, message.seq));
            }
            known.insert(key, message.clone());
            accepted.push(message);
        }
        if accepted.is_empty() {
            return Ok(answers);
        }
        advance_rooms(&tx, &advances(&rooms, &accepted, now)).await?;
        insert_messages(&tx, &accepted.iter().collect::<Vec<_>>()).await?;
        let mut missed = UnattendedRooms::default();
        for message in accepted.iter().filter(|message| unattended.contains(&(message.chatroom, message.seq))) {
            if let Some(room) = rooms.values().find(|room| room.id == message.chatroom.0) {
                missed.add(message, &room.contact, room.counts.seen());
            }
        }
        missed.write(&tx, |at| self.store.due_from(at)).await?;
        events.write(&tx).await?;
        tx.commit().await?;
        Ok(answers)
    }
}

#[derive(DerivePartialModel)]
#[sea_orm(entity = "chatroom::Entity")]
struct AppendRoom {
    id: i64,
    is_closed: bool,
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

/// Locks the rooms of the batch and returns them by name. The rooms may be locked out of id order, because they are
/// found through an index by name. This is safe: on an embedded node, every other transaction locks a single room.
async fn lock_rooms(tx: &DatabaseTransaction, batch: &[Append]) -> Result<HashMap<String, AppendRoom>, DbErr> {
    let mut names: Vec<&str> = batch.iter().map(|new| new.room.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut rows: Vec<AppendRoom> = chatroom::Entity::find()
        .filter(chatroom::Column::Name.is_in(names))
        .order_by_asc(chatroom::Column::Id)
        .lock_exclusive()
        .into_partial_model()
        .all(tx)
        .await?;
    for room in &mut rows {
        room.counts.catch_up(tx, room.id, room.last_seq, room.purged_through).await?;
    }
    Ok(rows.into_iter().map(|room| (room.subject.name.clone(), room)).collect())
}

/// Returns the messages of the batch that are already stored, by room, side and id.
async fn known_messages(
    tx: &DatabaseTransaction,
    batch: &[Append],
    rooms: &HashMap<String, AppendRoom>,
    wire: WireOffset,
) -> Result<HashMap<(i64, Side, MessageId), Message>, DbErr> {
    let mut ids: HashMap<i64, Vec<&str>> = HashMap::new();
    for new in batch {
        if let Some(room) = rooms.get(new.room.as_str()) {
            ids.entry(room.id).or_default().push(new.id.as_str());
        }
    }
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let candidates = ids.into_iter().fold(Condition::any(), |any, (room, ids)| {
        any.add(
            Condition::all()
                .add(chat_message::Column::ChatroomId.eq(room))
                .add(chat_message::Column::MessageId.is_in(ids)),
        )
    });
    let rows = chat_message::Entity::find()
        .filter(candidates)
        // If several messages have the same id, the oldest is inserted into the map last and therefore remains.
        .order_by_desc(chat_message::Column::Seq)
        .all(tx)
        .await?;
    // Purged messages are not treated as known. They are filtered here, because a bound in the query makes SQLite
    // choose an unsuitable index.
    let bounds: HashMap<i64, i64> = rooms.values().map(|room| (room.id, room.purged_through)).collect();
    let visible = rows.into_iter().filter(|row| bounds.get(&row.chatroom_id).is_some_and(|bound| row.seq > *bound));
    let messages = visible.map(|row| {
        let message = to_message(row, wire)?;
        Ok(((message.chatroom.0, message.side, message.id.clone()), message))
    });
    messages.collect()
}

/// Returns the new row values of every room that accepted a message.
fn advances<'a>(rooms: &HashMap<String, AppendRoom>, accepted: &'a [Message], now: DateTime<Utc>) -> Vec<Advance<'a>> {
    let newest: HashMap<i64, &Message> = accepted.iter().map(|message| (message.chatroom.0, message)).collect();
    let mut advances: Vec<_> = rooms
        .values()
        .filter_map(|room| {
            let message = newest.get(&room.id)?;
            Some(Advance {
                id: room.id,
                last_seq: room.last_seq,
                latest_msg: &message.text,
                latest_msg_at: now,
                updated_at: room.updated_at.max(now),
                // The embedded broker continues the sequence numbers stored in the database, so it has no epoch.
                last_epoch: None,
                counts: room.counts,
            })
        })
        .collect();
    advances.sort_unstable_by_key(|advance| advance.id);
    advances
}
