//! Counts kept on the room row, so that lists need not count: all messages, and those that the host has not seen.
//!
//! **Invariant:** the counts are exact for the messages up to `counted_through`. Callers that need all messages count
//! those above it. There are none, unless a node of an older release wrote them.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbErr, DerivePartialModel, EntityTrait, ExprTrait,
    QueryFilter, QuerySelect,
};

use crate::domain::{Message, Room, RoomCounts, Seq, Side};
use crate::store::entity::{chat_message, chatroom};
use crate::store::{RoomRepository, RoomRow, StoreError, from_column, millis, to_column};

/// How far one side has seen a room. The sequence number decides. The time decides only for rooms last viewed before
/// numbers were recorded, because messages and views may be stamped by different clocks.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::store) struct SeenThrough {
    pub(in crate::store) seq: Option<i64>,
    pub(in crate::store) at: Option<DateTime<Utc>>,
}

impl SeenThrough {
    /// Returns whether a message has been seen.
    pub(in crate::store) fn covers(self, seq: i64, accepted_at: DateTime<Utc>) -> bool {
        match (self.seq, self.at) {
            (Some(seen), _) => seq <= seen,
            (None, Some(at)) => accepted_at <= at,
            (None, None) => false,
        }
    }

    /// Restricts `messages` to those that have not been seen.
    pub(in crate::store) fn missed(self, messages: Condition) -> Condition {
        match (self.seq, self.at) {
            (Some(seen), _) => messages.add(chat_message::Column::Seq.gt(seen)),
            (None, Some(at)) => messages.add(chat_message::Column::AcceptedAt.gt(at)),
            (None, None) => messages,
        }
    }
}

/// Counts of a room whose lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, DerivePartialModel)]
#[sea_orm(entity = "chatroom::Entity")]
pub(in crate::store) struct Counts {
    pub(in crate::store) message_count: i64,
    pub(in crate::store) unread_count: i64,
    pub(in crate::store) counted_through: i64,
    pub(in crate::store) last_checked_at: Option<DateTime<Utc>>,
    pub(in crate::store) checked_seq: Option<i64>,
}

impl Counts {
    /// How far the host has seen the room.
    pub(in crate::store) fn seen(&self) -> SeenThrough {
        SeenThrough { seq: self.checked_seq, at: self.last_checked_at }
    }

    /// Adds the messages in SQL up to `last_seq` that are not counted yet.
    pub(in crate::store) async fn catch_up(
        &mut self,
        tx: &DatabaseTransaction,
        room: i64,
        last_seq: i64,
        purged_through: i64,
    ) -> Result<(), DbErr> {
        if self.counted_through >= last_seq {
            return Ok(());
        }
        let above = range(room, Ord::max(self.counted_through, purged_through), last_seq);
        self.message_count += count(tx, above.clone()).await?;
        self.unread_count += count(tx, unseen(above, self.seen())).await?;
        self.counted_through = last_seq;
        Ok(())
    }

    /// Adds a message that is being written.
    pub(in crate::store) fn add(&mut self, message: &Message) {
        self.message_count += 1;
        let is_new = !self.seen().covers(to_column(message.seq), millis(message.accepted_at));
        self.unread_count += i64::from(message.side == Side::Guest && is_new);
        self.counted_through = Ord::max(self.counted_through, to_column(message.seq));
    }

    /// Writes the counts of a room whose row is not updated otherwise.
    pub(in crate::store) async fn write(&self, tx: &DatabaseTransaction, room: i64) -> Result<(), DbErr> {
        chatroom::Entity::update_many()
            .col_expr(chatroom::Column::MessageCount, self.message_count.into())
            .col_expr(chatroom::Column::UnreadCount, self.unread_count.into())
            .col_expr(chatroom::Column::CountedThrough, self.counted_through.into())
            .filter(chatroom::Column::Id.eq(room))
            .exec(tx)
            .await?;
        Ok(())
    }
}

impl From<&chatroom::Model> for RoomCounts {
    fn from(row: &chatroom::Model) -> Self {
        Self {
            messages: from_column(row.message_count),
            unread: from_column(row.unread_count),
            through: from_column(row.counted_through),
        }
    }
}

impl RoomRepository<'_> {
    /// Number of visible messages in a room, up to and including `through`. 0 for a room without a row.
    pub async fn count_messages(self, room: impl Into<RoomRow>, through: Option<Seq>) -> Result<u64, StoreError> {
        let room = room.into();
        self.store.run("counts", || self.count_messages_once(room, through.map(to_column))).await
    }

    async fn count_messages_once(self, key: RoomRow, through: Option<i64>) -> Result<u64, DbErr> {
        use chatroom::Column::{CountedThrough, LastSeq, MessageCount, PurgedThrough};
        let room = key.id.0;
        let row: Option<(i64, i64, i64, i64)> = chatroom::Entity::find()
            .filter(key.condition())
            .select_only()
            .columns([MessageCount, CountedThrough, PurgedThrough, LastSeq])
            .into_tuple()
            .one(&self.store.reader)
            .await?;
        let Some((counted, upto, purged, last_seq)) = row else { return Ok(0) };
        // Messages written meanwhile are outside both ranges.
        let through = Ord::max(through.unwrap_or(last_seq), purged);
        let all = if through >= upto {
            counted + count(&self.store.reader, range(room, Ord::max(upto, purged), through)).await?
        } else {
            counted - count(&self.store.reader, range(room, through, upto)).await?
        };
        Ok(from_column(all))
    }

    /// Number of guest messages above `above` that the host has not seen. The caller adds the count of the room row.
    pub async fn count_unread_above(self, room: &Room, above: Seq) -> Result<u64, StoreError> {
        let seen = SeenThrough { seq: room.checked_seq.map(to_column), at: room.last_checked_at };
        let rows = unseen(range(room.id.0, to_column(above), i64::MAX), seen);
        Ok(from_column(self.store.run("counts", || count(&self.store.reader, rows.clone())).await?))
    }

    /// Records that the host viewed the room at `at` and has seen messages up to `through`. Neither value decreases: an
    /// earlier view changes nothing.
    pub async fn mark_checked(
        self,
        room: impl Into<RoomRow>,
        through: Seq,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let room = room.into();
        self.store.run("counts", || self.mark_checked_once(room, to_column(through), millis(at))).await
    }

    async fn mark_checked_once(self, room: RoomRow, through: i64, at: DateTime<Utc>) -> Result<(), DbErr> {
        use chatroom::Column::{CheckedSeq, LastCheckedAt, LastSeq, UnreadCount};
        let id = room.id.0;
        let check = |through: i64, at: DateTime<Utc>, unread: i64| {
            chatroom::Entity::update_many()
                .col_expr(LastCheckedAt, at.into())
                .col_expr(CheckedSeq, through.into())
                .col_expr(UnreadCount, unread.into())
                .filter(room.condition())
        };
        // Usually the host has seen everything, and later than before.
        let is_later = Condition::all()
            .add(Condition::any().add(LastCheckedAt.is_null()).add(Expr::col(LastCheckedAt).lt(at)))
            .add(Condition::any().add(CheckedSeq.is_null()).add(Expr::col(CheckedSeq).lte(through)));
        let has_seen_all = check(through, at, 0).filter(is_later).filter(Expr::col(LastSeq).lte(through));
        if has_seen_all.exec(&self.store.writer).await?.rows_affected > 0 {
            return Ok(());
        }
        let tx = self.store.begin().await?;
        let Some((before_at, before, purged, counted)) = chatroom::Entity::find()
            .filter(room.condition())
            .select_only()
            .columns([LastCheckedAt, CheckedSeq, chatroom::Column::PurgedThrough, chatroom::Column::CountedThrough])
            .lock_exclusive()
            .into_tuple::<(Option<DateTime<Utc>>, Option<i64>, i64, i64)>()
            .one(&tx)
            .await?
        else {
            return Ok(());
        };
        let before = match (before, before_at) {
            (None, Some(at)) => last_accepted_by(&tx, id, at).await?,
            (before, _) => before,
        };
        let seen = SeenThrough { seq: Ord::max(before, Some(through)), at: Ord::max(before_at, Some(at)) };
        let unread = count(&tx, unseen(range(id, purged, counted), seen)).await?;
        check(seen.seq.unwrap_or(through), seen.at.unwrap_or(at), unread).exec(&tx).await?;
        tx.commit().await
    }
}

/// Rows of a room above `after`, up to and including `through`.
fn range(room: i64, after: i64, through: i64) -> Condition {
    Condition::all()
        .add(chat_message::Column::ChatroomId.eq(room))
        .add(chat_message::Column::Seq.gt(after))
        .add(chat_message::Column::Seq.lte(through))
}

/// Restricts `rows` to guest messages that the host has not seen.
fn unseen(rows: Condition, seen: SeenThrough) -> Condition {
    seen.missed(rows.add(chat_message::Column::IsHost.eq(false)))
}

/// Highest sequence number among a room's messages accepted at or before `at`.
async fn last_accepted_by(tx: &DatabaseTransaction, room: i64, at: DateTime<Utc>) -> Result<Option<i64>, DbErr> {
    let found: Option<Option<i64>> = chat_message::Entity::find()
        .select_only()
        .column_as(chat_message::Column::Seq.max(), "last")
        .filter(chat_message::Column::ChatroomId.eq(room))
        .filter(chat_message::Column::AcceptedAt.lte(at))
        .into_tuple()
        .one(tx)
        .await?;
    Ok(found.flatten())
}

async fn count(connection: &impl ConnectionTrait, rows: Condition) -> Result<i64, DbErr> {
    let counted: Option<i64> = chat_message::Entity::find()
        .select_only()
        .column_as(chat_message::Column::Seq.count(), "counted")
        .filter(rows)
        .into_tuple()
        .one(connection)
        .await?;
    Ok(counted.unwrap_or_default())
}
