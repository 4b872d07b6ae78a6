//! Messages: reading them, and deleting those that are no longer visible.
//!
//! A message is visible if its room has a row and its sequence number is above the room's `purged_through`. The rows of
//! other messages are deleted later, in batches.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, Func, Order, Query, SelectStatement};
use sea_orm::{ColumnTrait, Condition, DbErr, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect, Select};

use super::entity::{chat_message, chatroom};
use super::{Store, StoreError, from_column, millis, parse_column, to_column};
use crate::domain::{ChatroomId, Message, MessageId, RoomKey, RoomName, Seq, Side, WallClock, WireOffset};

/// Offset from which a page is located by sequence number instead of by skipping rows. Skipping 1,000 rows takes about
/// 1 ms.
const FAR: u64 = 1_000;

/// Maximum number of messages that one query of a page reads: 2 MiB at the maximum message length.
const ONE_READ: u64 = 100;

/// Maximum number of messages of one second that are searched for the oldest; more than a room receives in practice.
const WITHIN_A_SECOND: u64 = 200;

impl Store {
    /// Returns the messages above `after`, up to and including `through`, oldest first.
    pub async fn messages_between(
        &self,
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

    /// Returns the messages below `before`, or else the newest ones, newest first.
    pub async fn messages_before(
        &self,
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
    pub async fn numbers_between(
        &self,
        room: impl Into<RoomRow>,
        after: Seq,
        limit: u64,
    ) -> Result<Vec<Seq>, StoreError> {
        let numbers = visible_above(room.into(), after)
            .select_only()
            .column(chat_message::Column::Seq)
            .order_by_asc(chat_message::Column::Seq)
            .limit(limit);
        let numbers: Vec<i64> = self.run("messages", || numbers.clone().into_tuple().all(&self.reader)).await?;
        Ok(numbers.into_iter().map(from_column).collect())
    }

    /// Returns a page of a room's messages up to and including `through`, newest first. The page ends early once it
    /// contains `bytes` of text.
    ///
    /// Pages far from the newest message are not reached by skipping rows: if no sequence number is missing, the page
    /// starts at a computed number. Otherwise only sequence numbers are skipped, from the nearer end.
    pub async fn page_messages(
        &self,
        room: impl Into<RoomRow>,
        through: Option<Seq>,
        offset: u64,
        limit: u64,
        bytes: usize,
    ) -> Result<Vec<Message>, StoreError> {
        let room = room.into();
        let messages = visible_through(room, through).order_by_desc(chat_message::Column::Seq);
        let mut page = if offset < FAR {
            self.read(messages.offset(offset).limit(Ord::min(limit, ONE_READ))).await?
        } else {
            let Some(first) = self.seq_at(room, through, offset).await? else { return Ok(Vec::new()) };
            self.read(messages.filter(chat_message::Column::Seq.lte(first)).limit(Ord::min(limit, ONE_READ))).await?
        };
        let mut size: usize = page.iter().map(|message| message.text.len()).sum();
        while (page.len() as u64).is_multiple_of(ONE_READ) && (page.len() as u64) < limit && size < bytes {
            let Some(last) = page.last() else { break };
            let wanted = Ord::min(limit - page.len() as u64, ONE_READ);
            let read = self.messages_before(room, Some(last.seq), wanted).await?;
            if read.is_empty() {
                break;
            }
            size += read.iter().map(|message| message.text.len()).sum::<usize>();
            page.extend(read);
        }
        while size > bytes && page.len() > 1 {
            size -= page.pop().map_or(0, |message| message.text.len());
        }
        Ok(page)
    }

    /// Returns the sequence number of the message at `offset` from the newest one up to `through`.
    async fn seq_at(&self, room: RoomRow, through: Option<Seq>, offset: u64) -> Result<Option<i64>, StoreError> {
        let count = self.count_messages(room, through).await?;
        if offset >= count {
            return Ok(None);
        }
        let at = async |order, skip| {
            let numbers = visible_through(room, through).select_only().column(chat_message::Column::Seq);
            let number = numbers.order_by(chat_message::Column::Seq, order).offset(skip).limit(1);
            self.run("messages", || number.clone().into_tuple::<i64>().one(&self.reader)).await
        };
        let (oldest, newest) = (at(Order::Asc, 0).await?, at(Order::Desc, 0).await?);
        match oldest.zip(newest) {
            Some((oldest, newest)) if from_column(newest - oldest + 1) == count => Ok(Some(newest - to_column(offset))),
            _ if offset * 2 > count => at(Order::Asc, count - 1 - offset).await,
            _ => at(Order::Desc, offset).await,
        }
    }

    /// Returns the message that one side sent under an id. If there are several, returns the oldest.
    pub async fn message_by_id(
        &self,
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
    pub async fn newest_ids(&self, room: ChatroomId, limit: u64) -> Result<Vec<(Side, MessageId, Seq)>, StoreError> {
        let rows: Vec<(bool, String, i64)> = self
            .run("messages", || {
                chat_message::Entity::find()
                    .select_only()
                    .columns([chat_message::Column::IsHost, chat_message::Column::MessageId, chat_message::Column::Seq])
                    .filter(chat_message::Column::ChatroomId.eq(room.0))
                    .order_by_desc(chat_message::Column::Seq)
                    .limit(limit)
                    .into_tuple()
                    .all(&self.reader)
            })
            .await?;
        let ids = rows.into_iter().map(|(is_host, id, seq)| {
            Ok((Side::from_is_host(is_host), parse_column("chat_message.message_id", &id)?, from_column(seq)))
        });
        Ok(ids.collect::<Result<_, DbErr>>()?)
    }

    /// Returns the sequence number of the oldest message whose `datetime`, without decimals, is `whole_seconds`.
    pub async fn seq_of_datetime(
        &self,
        room: impl Into<RoomRow>,
        whole_seconds: &str,
    ) -> Result<Option<Seq>, StoreError> {
        let key = room.into();
        let Some(room) = self.room(key.id).await?.filter(|room| key.name.is_none_or(|name| name == room.name)) else {
            return Ok(None);
        };
        // Decimals start with a dot, and the character after the dot is the slash. Unlike a pattern, a range is read
        // from the index on every dialect. Purged messages are filtered afterwards, because a second range makes SQLite
        // choose the other index.
        let bears = chat_message::Entity::find()
            .filter(chat_message::Column::ChatroomId.eq(room.id.0))
            .filter(chat_message::Column::Datetime.gte(whole_seconds))
            .filter(chat_message::Column::Datetime.lt(format!("{whole_seconds}/")))
            .select_only()
            .column(chat_message::Column::Seq)
            .order_by_asc(chat_message::Column::Datetime)
            .order_by_asc(chat_message::Column::Seq)
            .limit(WITHIN_A_SECOND);
        let numbers: Vec<i64> = self.run("messages", || bears.clone().into_tuple().all(&self.reader)).await?;
        Ok(numbers.into_iter().map(from_column).filter(|seq| *seq > room.purged_through).min())
    }

    /// Returns the sequence number of the oldest message accepted at or after `instant`. Acceptance times rise with
    /// sequence numbers, so this is a binary search.
    pub async fn seq_accepted_at(
        &self,
        room: impl Into<RoomRow>,
        instant: DateTime<Utc>,
    ) -> Result<Option<Seq>, StoreError> {
        let (room, instant) = (room.into(), millis(instant));
        let newest = self.messages_before(room, None, 1).await?.pop();
        let Some(newest) = newest.filter(|newest| newest.accepted_at >= instant) else { return Ok(None) };
        // Messages up to `low` are older than `instant`; `found` is not. No message lies between `high` and `found`.
        let (mut low, mut high, mut found) = (0, newest.seq, newest.seq);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            match self.messages_between(room, middle - 1, Some(high - 1), 1).await?.pop() {
                Some(message) if message.accepted_at < instant => low = message.seq,
                Some(message) => (high, found) = (middle, message.seq),
                None => high = middle,
            }
        }
        Ok(Some(found))
    }

    /// Deletes up to `limit` rows that are not visible: those up to the room's `purged_through`, or all rows of a room
    /// without a row. Returns the number of deleted rows; 0 means that none remain.
    pub async fn delete_messages(&self, room: ChatroomId, limit: u64) -> Result<u64, StoreError> {
        self.run("messages", || self.delete_messages_once(room, limit)).await
    }

    async fn delete_messages_once(&self, room: ChatroomId, limit: u64) -> Result<u64, DbErr> {
        // Both reads are safe without a lock: `purged_through` only rises, and a deleted room is never created again.
        let bound: Option<i64> = chatroom::Entity::find_by_id(room.0)
            .select_only()
            .column(chatroom::Column::PurgedThrough)
            .into_tuple()
            .one(&self.writer)
            .await?;
        let doomed: Vec<i64> = chat_message::Entity::find()
            .select_only()
            .column(chat_message::Column::Seq)
            .filter(chat_message::Column::ChatroomId.eq(room.0))
            .filter(chat_message::Column::Seq.lte(bound.unwrap_or(i64::MAX)))
            .order_by_asc(chat_message::Column::Seq)
            .limit(limit)
            .into_tuple()
            .all(&self.writer)
            .await?;
        let Some(last) = doomed.last() else { return Ok(0) };
        let deleted = chat_message::Entity::delete_many()
            .filter(chat_message::Column::ChatroomId.eq(room.0))
            .filter(chat_message::Column::Seq.lte(*last))
            .exec(&self.writer)
            .await?;
        Ok(deleted.rows_affected)
    }

    async fn read(&self, messages: Select<chat_message::Entity>) -> Result<Vec<Message>, StoreError> {
        let rows = self.run("messages", || messages.clone().all(&self.reader)).await?;
        Ok(rows.into_iter().map(|row| to_message(row, self.wire)).collect::<Result<_, _>>()?)
    }
}

/// Key of a room row: the id and, where the caller knows it, the name. A row with another name belongs to another room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomRow {
    /// Id of the row.
    pub id: ChatroomId,
    /// Name that the row must have.
    pub name: Option<RoomName>,
}

impl RoomRow {
    /// Condition that selects the row.
    pub(super) fn condition(self) -> Condition {
        let row = Condition::all().add(chatroom::Column::Id.eq(self.id.0));
        row.add_option(self.name.map(|name| chatroom::Column::Name.eq(name.as_str())))
    }
}

impl From<ChatroomId> for RoomRow {
    fn from(id: ChatroomId) -> Self {
        Self { id, name: None }
    }
}

impl From<RoomKey> for RoomRow {
    fn from(key: RoomKey) -> Self {
        Self { id: key.chatroom, name: Some(key.name) }
    }
}

/// Selects the visible messages of a room. Without a row of the room the bound is null, and no number is above null.
fn visible(room: RoomRow) -> Select<chat_message::Entity> {
    visible_above(room, 0)
}

/// Like [`visible`], restricted to numbers above `after`. Uses one bound, because with two SQLite starts at the wrong
/// one and scans from there.
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

/// Converts a row to a message. A node of an earlier release may have stored an invalid wall clock, which `accepted_at`
/// replaces.
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
