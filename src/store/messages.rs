//! Messages: reading them, and deleting those that nobody may see any more.
//!
//! A reader sees a message when its room has a row and its number is above the room's `purged_through`; the rows of the
//! others go later, in batches.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, LikeExpr, Order, Query, SelectStatement};
use sea_orm::{ColumnTrait, DbErr, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect, Select};

use super::entity::{chat_message, chatroom};
use super::{Store, StoreError, from_column, millis, parse_column, to_column};
use crate::domain::{ChatroomId, Message, MessageId, Seq, Side};

/// A page that begins so many messages from the newest is looked for by number: walking a thousand takes a millisecond.
const FAR: u64 = 1_000;

impl Store {
    /// The messages above `after`, up to and with `through`, oldest first.
    pub async fn messages_between(
        &self,
        room: ChatroomId,
        after: Seq,
        through: Option<Seq>,
        limit: u64,
    ) -> Result<Vec<Message>, StoreError> {
        let mut messages = visible(room).filter(chat_message::Column::Seq.gt(to_column(after)));
        if let Some(through) = through {
            messages = messages.filter(chat_message::Column::Seq.lte(to_column(through)));
        }
        self.read(messages.order_by_asc(chat_message::Column::Seq).limit(limit)).await
    }

    /// The messages below `before`, or the newest, newest first.
    pub async fn messages_before(
        &self,
        room: ChatroomId,
        before: Option<Seq>,
        limit: u64,
    ) -> Result<Vec<Message>, StoreError> {
        let mut messages = visible(room);
        if let Some(before) = before {
            messages = messages.filter(chat_message::Column::Seq.lt(to_column(before)));
        }
        self.read(messages.order_by_desc(chat_message::Column::Seq).limit(limit)).await
    }

    /// A page of a room's messages up to and with `through`, newest first. Far from the newest the way is not walked: where
    /// no number was skipped, the numbers themselves say where the page begins.
    pub async fn page_messages(
        &self,
        room: ChatroomId,
        through: Option<Seq>,
        offset: u64,
        limit: u64,
    ) -> Result<Vec<Message>, StoreError> {
        let messages = visible_through(room, through).order_by_desc(chat_message::Column::Seq);
        if offset >= FAR
            && let Some(newest) = self.newest_if_dense(room, through).await?
        {
            let below = newest.saturating_sub(to_column(offset));
            return self.read(messages.filter(chat_message::Column::Seq.lte(below)).limit(limit)).await;
        }
        self.read(messages.offset(offset).limit(limit)).await
    }

    /// The newest number up to `through`, if no number below it was skipped.
    async fn newest_if_dense(&self, room: ChatroomId, through: Option<Seq>) -> Result<Option<i64>, StoreError> {
        let count = self.count_messages(room, through).await?;
        let end = |order| {
            let numbers = visible_through(room, through).select_only().column(chat_message::Column::Seq);
            numbers.order_by(chat_message::Column::Seq, order).limit(1)
        };
        let (oldest, newest) = (end(Order::Asc), end(Order::Desc));
        let oldest: Option<i64> = self.run(|| oldest.clone().into_tuple().one(&self.reader)).await?;
        let newest: Option<i64> = self.run(|| newest.clone().into_tuple().one(&self.reader)).await?;
        Ok(oldest.zip(newest).filter(|(oldest, newest)| from_column(newest - oldest + 1) == count).map(|ends| ends.1))
    }

    /// The message that one side sent under an id; the oldest, should there be several.
    pub async fn message_by_id(
        &self,
        room: ChatroomId,
        side: Side,
        id: &MessageId,
    ) -> Result<Option<Message>, StoreError> {
        let messages = visible(room)
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
    pub async fn seq_of_datetime(&self, room: ChatroomId, whole_seconds: &str) -> Result<Option<Seq>, StoreError> {
        // What a wall clock shows has none of the characters that a pattern would read otherwise.
        if !whole_seconds.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b':' | b'T' | b'.')) {
            return Ok(None);
        }
        let starts_with_it = LikeExpr::new(format!("{whole_seconds}%"));
        self.oldest_seq(visible(room).filter(Expr::col(chat_message::Column::Datetime).like(starts_with_it))).await
    }

    /// The number of the oldest message that was accepted at `instant` or later.
    pub async fn seq_accepted_at(&self, room: ChatroomId, instant: DateTime<Utc>) -> Result<Option<Seq>, StoreError> {
        self.oldest_seq(visible(room).filter(chat_message::Column::AcceptedAt.gte(millis(instant)))).await
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
        Ok(rows.into_iter().map(to_message).collect::<Result<_, _>>()?)
    }

    async fn oldest_seq(&self, messages: Select<chat_message::Entity>) -> Result<Option<Seq>, StoreError> {
        let oldest =
            messages.select_only().column(chat_message::Column::Seq).order_by_asc(chat_message::Column::Seq).limit(1);
        Ok(self.run(|| oldest.clone().into_tuple::<i64>().one(&self.reader)).await?.map(from_column))
    }
}

/// What a reader of the room sees. Without a row of the room the bound is null, and nothing is above null.
fn visible(room: ChatroomId) -> Select<chat_message::Entity> {
    let purged_through: SelectStatement = Query::select()
        .column(chatroom::Column::PurgedThrough)
        .from(chatroom::Entity)
        .and_where(Expr::col(chatroom::Column::Id).eq(room.0))
        .take();
    chat_message::Entity::find()
        .filter(chat_message::Column::ChatroomId.eq(room.0))
        .filter(Expr::col((chat_message::Entity, chat_message::Column::Seq)).gt(purged_through))
}

fn visible_through(room: ChatroomId, through: Option<Seq>) -> Select<chat_message::Entity> {
    match through {
        Some(through) => visible(room).filter(chat_message::Column::Seq.lte(to_column(through))),
        None => visible(room),
    }
}

pub(super) fn to_message(row: chat_message::Model) -> Result<Message, DbErr> {
    Ok(Message {
        chatroom: ChatroomId(row.chatroom_id),
        seq: from_column(row.seq),
        side: Side::from_is_host(row.is_host),
        text: row.message,
        datetime: parse_column("chat_message.datetime", &row.datetime)?,
        id: parse_column("chat_message.message_id", &row.message_id)?,
        accepted_at: row.accepted_at,
    })
}
