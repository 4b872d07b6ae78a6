//! Messages: reading them, and deleting those that nobody may see any more.
//!
//! A reader sees a message when its room has a row and its number is above the room's `purged_through`; the rows of the
//! others go later, in batches.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, Func, Order, Query, SelectStatement};
use sea_orm::{ColumnTrait, Condition, DbErr, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect, Select};

use super::entity::{chat_message, chatroom};
use super::{Store, StoreError, from_column, millis, parse_column, to_column};
use crate::domain::{ChatroomId, Message, MessageId, RoomKey, RoomName, Seq, Side, WallClock, WireOffset};

/// A page that begins so many messages from the newest is looked for by number: walking a thousand takes a millisecond.
const FAR: u64 = 1_000;

/// Messages of one read of a page: 2 MiB of the longest.
const ONE_READ: u64 = 100;

/// How many messages of one second are looked at to find the oldest: nobody writes more.
const WITHIN_A_SECOND: u64 = 200;

impl Store {
    /// The messages above `after`, up to and with `through`, oldest first.
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

    /// The messages below `before`, or the newest, newest first.
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

    /// The numbers of the messages above `after`, ascending.
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
        let numbers: Vec<i64> = self.run(|| numbers.clone().into_tuple().all(&self.reader)).await?;
        Ok(numbers.into_iter().map(from_column).collect())
    }

    /// A page of a room's messages up to and with `through`, newest first. It ends early once it has `bytes` of text. Far from the newest the way is not walked: where no
    /// number was skipped, the numbers themselves say where the page begins; else it is walked from the nearer end, and of the
    /// rows on the way nothing is read but their numbers.
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

    /// The number of the message at an offset from the newest up to `through`.
    async fn seq_at(&self, room: RoomRow, through: Option<Seq>, offset: u64) -> Result<Option<i64>, StoreError> {
        let count = self.count_messages(room, through).await?;
        if offset >= count {
            return Ok(None);
        }
        let at = async |order, skip| {
            let numbers = visible_through(room, through).select_only().column(chat_message::Column::Seq);
            let number = numbers.order_by(chat_message::Column::Seq, order).offset(skip).limit(1);
            self.run(|| number.clone().into_tuple::<i64>().one(&self.reader)).await
        };
        let (oldest, newest) = (at(Order::Asc, 0).await?, at(Order::Desc, 0).await?);
        match oldest.zip(newest) {
            Some((oldest, newest)) if from_column(newest - oldest + 1) == count => Ok(Some(newest - to_column(offset))),
            _ if offset * 2 > count => at(Order::Asc, count - 1 - offset).await,
            _ => at(Order::Desc, offset).await,
        }
    }

    /// The message that one side sent under an id; the oldest, should there be several.
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

    /// The ids of a room's newest messages, newest first: what the broker needs to know a repeated one. Purged ones
    /// count.
    pub async fn newest_ids(&self, room: ChatroomId, limit: u64) -> Result<Vec<(Side, MessageId, Seq)>, StoreError> {
        let rows: Vec<(bool, String, i64)> = self
            .run(|| {
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

    /// The number of the oldest message whose `datetime`, without its decimals, is `whole_seconds`.
    pub async fn seq_of_datetime(
        &self,
        room: impl Into<RoomRow>,
        whole_seconds: &str,
    ) -> Result<Option<Seq>, StoreError> {
        let key = room.into();
        let Some(room) = self.room(key.id).await?.filter(|room| key.name.is_none_or(|name| name == room.name)) else {
            return Ok(None);
        };
        // Decimals begin with a dot, and what comes right after the dot is the slash. A range, unlike a pattern, is read from the
        // index on every dialect; what is purged is left out afterwards, as a second range would tempt SQLite to the other one.
        let bears = chat_message::Entity::find()
            .filter(chat_message::Column::ChatroomId.eq(room.id.0))
            .filter(chat_message::Column::Datetime.gte(whole_seconds))
            .filter(chat_message::Column::Datetime.lt(format!("{whole_seconds}/")))
            .select_only()
            .column(chat_message::Column::Seq)
            .order_by_asc(chat_message::Column::Datetime)
            .order_by_asc(chat_message::Column::Seq)
            .limit(WITHIN_A_SECOND);
        let numbers: Vec<i64> = self.run(|| bears.clone().into_tuple().all(&self.reader)).await?;
        Ok(numbers.into_iter().map(from_column).filter(|seq| *seq > room.purged_through).min())
    }

    /// The number of the oldest message that was accepted at `instant` or later. Time rises with the numbers, so it is
    /// looked for by halves.
    pub async fn seq_accepted_at(
        &self,
        room: impl Into<RoomRow>,
        instant: DateTime<Utc>,
    ) -> Result<Option<Seq>, StoreError> {
        let (room, instant) = (room.into(), millis(instant));
        let newest = self.messages_before(room, None, 1).await?.pop();
        let Some(newest) = newest.filter(|newest| newest.accepted_at >= instant) else { return Ok(None) };
        // All up to `low` are older; `found` is not, and between `high` and `found` there is none.
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

    /// Deletes up to `limit` rows that nobody may see: those up to the room's `purged_through`, or all of a room that
    /// has no row. Returns how many; 0 means that none are left.
    pub async fn delete_messages(&self, room: ChatroomId, limit: u64) -> Result<u64, StoreError> {
        self.run(|| self.delete_messages_once(room, limit)).await
    }

    async fn delete_messages_once(&self, room: ChatroomId, limit: u64) -> Result<u64, DbErr> {
        // Both are safe to read without a lock: a room's bound only rises, and a deleted room never comes back.
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
        let rows = self.run(|| messages.clone().all(&self.reader)).await?;
        Ok(rows.into_iter().map(|row| to_message(row, self.wire)).collect::<Result<_, _>>()?)
    }
}

/// A room's row and, where the caller knows it, its name: a row with another name is another room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomRow {
    /// The row.
    pub id: ChatroomId,
    /// The name that it must have.
    pub name: Option<RoomName>,
}

impl RoomRow {
    /// The condition that selects it.
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

/// What a reader of the room sees. Without a row of the room the bound is null, and nothing is above null.
fn visible(room: RoomRow) -> Select<chat_message::Entity> {
    visible_above(room, 0)
}

/// Likewise, above a number. One bound, as of two SQLite looks for the wrong one and walks from there.
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

/// A wall clock that a node of an earlier release stored may be no time of the calendar: `accepted_at` takes its place.
pub(super) fn to_message(row: chat_message::Model, wire: WireOffset) -> Result<Message, DbErr> {
    // Rows that were imported may have any text: one such row must not make its room unreadable.
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
