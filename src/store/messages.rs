//! Messages: reading them, and deleting those that are no longer visible.
//!
//! A message is visible if its room has a row and its sequence number is above the room's `purged_through`. The rows of
//! messages that are not visible are deleted later, in batches.

mod advance;
pub(super) mod append;
pub(super) mod archive;
mod page;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, Func, Query, SelectStatement};
use sea_orm::{ColumnTrait, DbErr, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect, Select};

use crate::domain::{ChatroomId, Message, MessageId, Seq, Side, WallClock, WireOffset};
use crate::store::entity::{chat_message, chatroom};
use crate::store::{MessageRepository, RoomRow, StoreError, from_column, millis, parse_column, to_column};

/// Maximum number of messages with a wall-clock time in the same second that are read to find the oldest one. In
/// practice, a room receives fewer messages per second.
const WITHIN_A_SECOND: u64 = 200;

impl MessageRepository<'_> {
    /// Returns the messages above `after`, up to and including `through`, oldest first.
    pub async fn between(
        self,
        room: impl Into<RoomRow>,
        after: Seq,
        through: Option<Seq>,
        limit: u64,
    ) -> Result<Vec<Message>, StoreError> {
        let mut messages = visible_above(room.into(), after);
        if let Some(through) = through {
            messages = messages.filter(chat_message::Column::Seq.lte(to_column(through)));
        }
        self.read(messages.order_by_asc(chat_message::Column::Seq).limit(limit)).await
    }

    /// Returns messages below `before`, newest first. Without `before`, starts with the newest message.
    pub async fn before(
        self,
        room: impl Into<RoomRow>,
        before: Option<Seq>,
        limit: u64,
    ) -> Result<Vec<Message>, StoreError> {
        let mut messages = visible(room.into());
        if let Some(before) = before {
            messages = messages.filter(chat_message::Column::Seq.lt(to_column(before)));
        }
        self.read(messages.order_by_desc(chat_message::Column::Seq).limit(limit)).await
    }

    /// Returns the sequence numbers of the messages above `after`, ascending.
    pub async fn seqs_between(self, room: impl Into<RoomRow>, after: Seq, limit: u64) -> Result<Vec<Seq>, StoreError> {
        let numbers = visible_above(room.into(), after)
            .select_only()
            .column(chat_message::Column::Seq)
            .order_by_asc(chat_message::Column::Seq)
            .limit(limit);
        let numbers: Vec<i64> =
            self.store.run("messages", || numbers.clone().into_tuple().all(&self.store.reader)).await?;
        Ok(numbers.into_iter().map(from_column).collect())
    }

    /// Returns the message that one side sent under an id, or the oldest one if there are several.
    pub async fn by_id(
        self,
        room: impl Into<RoomRow>,
        side: Side,
        id: &MessageId,
    ) -> Result<Option<Message>, StoreError> {
        let messages = visible(room.into())
            .filter(chat_message::Column::MessageId.eq(id.as_str()))
            .filter(chat_message::Column::IsHost.eq(side.is_host()))
            .order_by_asc(chat_message::Column::Seq)
            .limit(1);
        Ok(self.read(messages).await?.pop())
    }

    /// Returns the ids of a room's newest messages, newest first, so that the broker can recognise repeated messages.
    /// Includes purged messages.
    pub async fn newest_ids(self, room: ChatroomId, limit: u64) -> Result<Vec<(Side, MessageId, Seq)>, StoreError> {
        let rows: Vec<(bool, String, i64)> = self
            .store
            .run("messages", || {
                chat_message::Entity::find()
                    .select_only()
                    .columns([chat_message::Column::IsHost, chat_message::Column::MessageId, chat_message::Column::Seq])
                    .filter(chat_message::Column::ChatroomId.eq(room.0))
                    .order_by_desc(chat_message::Column::Seq)
                    .limit(limit)
                    .into_tuple()
                    .all(&self.store.reader)
            })
            .await?;
        let ids = rows.into_iter().map(|(is_host, id, seq)| {
            Ok((Side::from_is_host(is_host), parse_column("chat_message.message_id", &id)?, from_column(seq)))
        });
        Ok(ids.collect::<Result<_, DbErr>>()?)
    }

    /// Returns the sequence number of the oldest message whose `datetime`, truncated to whole seconds, equals
    /// `whole_seconds`. Returns `None` if there is no such message.
    pub async fn seq_of_datetime(
        self,
        room: impl Into<RoomRow>,
        whole_seconds: &str,
    ) -> Result<Option<Seq>, StoreError> {
        let key = room.into();
        let Some(room) =
            self.store.rooms().get(key.id).await?.filter(|room| key.name.is_none_or(|name| name == room.name))
        else {
            return Ok(None);
        };
        // The range ends before the string `whole_seconds` followed by a slash. The slash is the character after the
        // dot that starts the fractional seconds. Unlike a pattern, a range is read from the index on every dialect.
        // Purged messages are filtered afterwards, because a second range makes SQLite choose the other index.
        let with_datetime = chat_message::Entity::find()
            .filter(chat_message::Column::ChatroomId.eq(room.id.0))
            .filter(chat_message::Column::Datetime.gte(whole_seconds))
            .filter(chat_message::Column::Datetime.lt(format!("{whole_seconds}/")))
            .select_only()
            .column(chat_message::Column::Seq)
            .order_by_asc(chat_message::Column::Datetime)
            .order_by_asc(chat_message::Column::Seq)
            .limit(WITHIN_A_SECOND);
        let numbers: Vec<i64> =
            self.store.run("messages", || with_datetime.clone().into_tuple().all(&self.store.reader)).await?;
        Ok(numbers.into_iter().map(from_column).filter(|seq| *seq > room.purged_through).min())
    }

    /// Returns the sequence number of the oldest message accepted at or after `instant`, or `None` if there is none.
    /// Acceptance times rise with sequence numbers, so the function uses a binary search.
    pub async fn seq_accepted_at(
        self,
        room: impl Into<RoomRow>,
        instant: DateTime<Utc>,
    ) -> Result<Option<Seq>, StoreError> {
        let (room, instant) = (room.into(), millis(instant));
        let newest = self.before(room, None, 1).await?.pop();
        let Some(newest) = newest.filter(|newest| newest.accepted_at >= instant) else { return Ok(None) };
        // Loop invariant: messages up to `low` are older than `instant`, and message `found` is not. No message lies
        // between `high` and `found`.
        let (mut low, mut high, mut found) = (0, newest.seq, newest.seq);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            match self.between(room, middle - 1, Some(high - 1), 1).await?.pop() {
                Some(message) if message.accepted_at < instant => low = message.seq,
                Some(message) => (high, found) = (middle, message.seq),
                None => high = middle,
            }
        }
        Ok(Some(found))
    }

    /// Returns the sequence numbers of a room's messages from `first` on, ascending.
    pub async fn seqs_from(self, room: ChatroomId, first: Seq) -> Result<Vec<Seq>, StoreError> {
        let seqs: Vec<i64> = self
            .store
            .run("installation", || {
                chat_message::Entity::find()
                    .select_only()
                    .column(chat_message::Column::Seq)
                    .filter(chat_message::Column::ChatroomId.eq(room.0))
                    .filter(chat_message::Column::Seq.gte(to_column(first)))
                    .into_tuple()
                    .all(&self.store.reader)
            })
            .await?;
        Ok(seqs.into_iter().map(from_column).collect())
    }

    /// Deletes up to `limit` messages that are not visible: those up to the room's `purged_through`, or all of them if
    /// the room has no row. Returns the number of deleted messages; 0 means that none remain.
    pub async fn delete_invisible(self, room: ChatroomId, limit: u64) -> Result<u64, StoreError> {
        self.store.run("messages", || self.delete_invisible_once(room, limit)).await
    }

    async fn delete_invisible_once(self, room: ChatroomId, limit: u64) -> Result<u64, DbErr> {
        // The bound is read without a lock. It only rises, and a deleted room is never created again.
        let bound: Option<i64> = chatroom::Entity::find_by_id(room.0)
            .select_only()
            .column(chatroom::Column::PurgedThrough)
            .into_tuple()
            .one(&self.store.writer)
            .await?;
        let doomed: Vec<i64> = chat_message::Entity::find()
            .select_only()
            .column(chat_message::Column::Seq)
            .filter(chat_message::Column::ChatroomId.eq(room.0))
            .filter(chat_message::Column::Seq.lte(bound.unwrap_or(i64::MAX)))
            .order_by_asc(chat_message::Column::Seq)
            .limit(limit)
            .into_tuple()
            .all(&self.store.writer)
            .await?;
        let Some(last) = doomed.last() else { return Ok(0) };
        let deleted = chat_message::Entity::delete_many()
            .filter(chat_message::Column::ChatroomId.eq(room.0))
            .filter(chat_message::Column::Seq.lte(*last))
            .exec(&self.store.writer)
            .await?;
        Ok(deleted.rows_affected)
    }

    async fn read(self, messages: Select<chat_message::Entity>) -> Result<Vec<Message>, StoreError> {
        let rows = self.store.run("messages", || messages.clone().all(&self.store.reader)).await?;
        Ok(rows.into_iter().map(|row| to_message(row, self.store.wire)).collect::<Result<_, _>>()?)
    }
}

/// Selects the visible messages of a room. If the room has no row, the bound is null and no message matches.
fn visible(room: RoomRow) -> Select<chat_message::Entity> {
    visible_above(room, 0)
}

/// Selects the visible messages of a room above `after`. `after` and the room's `purged_through` are combined into one
/// lower bound, because with two bounds SQLite may seek to the smaller one and scan from there.
fn visible_above(room: RoomRow, after: Seq) -> Select<chat_message::Entity> {
    let purged_through: SelectStatement = Query::select()
        .column(chatroom::Column::PurgedThrough)
        .from(chatroom::Entity)
        .and_where(Expr::col(chatroom::Column::Id).eq(room.id.0))
        .and_where_option(room.name.map(|name| Expr::col(chatroom::Column::Name).eq(name.as_str())))
        .take();
    let purged_through = Expr::SubQuery(None, Box::new(purged_through.into()));
    let bound =
        if after == 0 { purged_through } else { Func::greatest([to_column(after).into(), purged_through]).into() };
    chat_message::Entity::find()
        .filter(chat_message::Column::ChatroomId.eq(room.id.0))
        .filter(Expr::col((chat_message::Entity, chat_message::Column::Seq)).gt(bound))
}

fn visible_through(room: RoomRow, through: Option<Seq>) -> Select<chat_message::Entity> {
    match through {
        Some(through) => visible(room).filter(chat_message::Column::Seq.lte(to_column(through))),
        None => visible(room),
    }
}

/// Converts a row to a message. An invalid wall-clock time, as stored by nodes of an earlier release, is replaced by
/// `accepted_at`.
pub(super) fn to_message(row: chat_message::Model, wire: WireOffset) -> Result<Message, DbErr> {
    // Imported rows may contain any text. One such row must not make its room unreadable.
    let datetime = match row.datetime.parse::<WallClock>() {
        Ok(written) => wire.repaired(written, row.accepted_at),
        Err(_) => wire.of_acceptance(row.accepted_at),
    };
    let id = row.message_id.parse().or_else(|_| parse_column("chat_message.seq", &format!("seq-{}", row.seq)))?;
    Ok(Message {
        chatroom: ChatroomId(row.chatroom_id),
        seq: from_column(row.seq),
        side: Side::from_is_host(row.is_host),
        text: row.message,
        datetime,
        id,
        accepted_at: row.accepted_at,
    })
}
