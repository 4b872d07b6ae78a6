//! Numbers of messages in rooms: all messages, and those that the host has not seen. They are read from the
//! [counts](crate::store::counts) on the room row.
//!
//! **Invariant:** the counts are exact for the messages up to `counted_through`. Callers that need all messages also
//! count the messages above it. Such messages exist only if a node of an earlier release wrote them.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, ExprTrait, QueryFilter, QuerySelect};

use crate::domain::{Room, RoomCounts, Seq};
use crate::store::counts::{SeenThrough, count, range, unseen};
use crate::store::entity::{chat_message, chatroom};
use crate::store::{RoomRepository, RoomRow, StoreError, from_column, millis, to_column};

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
    /// Returns the number of visible messages in a room, up to and including `through`. Returns 0 for a room without a
    /// row.
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
        // Messages that are written between these queries are outside both ranges.
        let through = Ord::max(through.unwrap_or(last_seq), purged);
        let all = if through >= upto {
            counted + count(&self.store.reader, range(room, Ord::max(upto, purged), through)).await?
        } else {
            counted - count(&self.store.reader, range(room, through, upto)).await?
        };
        Ok(from_column(all))
    }

    /// Returns the number of guest messages above `above` that the host has not seen. The caller adds the count of the
    /// room row.
    pub async fn count_unread_above(self, room: &Room, above: Seq) -> Result<u64, StoreError> {
        let seen = SeenThrough { seq: room.checked_seq.map(to_column), at: room.last_checked_at };
        let rows = unseen(range(room.id.0, to_column(above), i64::MAX), seen);
        Ok(from_column(self.store.run("counts", || count(&self.store.reader, rows.clone())).await?))
    }

    /// Records that the host viewed the room at `at` and has seen messages up to `through`. Neither of the stored
    /// values ever decreases.
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
        // This update handles the usual case without counting: the host has seen all messages, and this view is later
        // than the stored one.
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

/// Returns the highest sequence number among a room's messages accepted at or before `at`, or `None` if there is no
/// such message.
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
