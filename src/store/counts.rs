//! Message counts stored in the room row, and the position up to which each side has seen a room.
//!
//! **Invariant:** the counts are exact for the messages up to `counted_through`.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbErr, DerivePartialModel, EntityTrait, QueryFilter,
    QuerySelect,
};

use crate::domain::{Message, Side};
use crate::store::entity::{chat_message, chatroom};
use crate::store::{millis, to_column};

/// Position up to which one side has seen a room. The time is used only if there is no sequence number, because an
/// earlier release recorded the last view. Times are less reliable: messages and views may be timestamped by different
/// clocks.
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

    /// Restricts the condition `messages` to messages that have not been seen.
    pub(in crate::store) fn missed(self, messages: Condition) -> Condition {
        match (self.seq, self.at) {
            (Some(seen), _) => messages.add(chat_message::Column::Seq.gt(seen)),
            (None, Some(at)) => messages.add(chat_message::Column::AcceptedAt.gt(at)),
            (None, None) => messages,
        }
    }
}

/// Counts of a room. The caller must hold the lock of the room.
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
    /// Returns the position up to which the host has seen the room.
    pub(in crate::store) fn seen(&self) -> SeenThrough {
        SeenThrough { seq: self.checked_seq, at: self.last_checked_at }
    }

    /// Counts the stored messages up to `last_seq` that are not counted yet.
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

    /// Counts a message that the current transaction writes.
    pub(in crate::store) fn add(&mut self, message: &Message) {
        self.message_count += 1;
        let is_new = !self.seen().covers(to_column(message.seq), millis(message.accepted_at));
        self.unread_count += i64::from(message.side == Side::Guest && is_new);
        self.counted_through = Ord::max(self.counted_through, to_column(message.seq));
    }

    /// Writes the counts to the room row. Must be called only for a room that no other statement of the transaction
    /// updates.
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

/// Selects the messages of a room above `after`, up to and including `through`.
pub(in crate::store) fn range(room: i64, after: i64, through: i64) -> Condition {
    Condition::all()
        .add(chat_message::Column::ChatroomId.eq(room))
        .add(chat_message::Column::Seq.gt(after))
        .add(chat_message::Column::Seq.lte(through))
}

/// Restricts the condition `rows` to guest messages that the host has not seen.
pub(in crate::store) fn unseen(rows: Condition, seen: SeenThrough) -> Condition {
    seen.missed(rows.add(chat_message::Column::IsHost.eq(false)))
}

pub(in crate::store) async fn count(connection: &impl ConnectionTrait, rows: Condition) -> Result<i64, DbErr> {
    let counted: Option<i64> = chat_message::Entity::find()
        .select_only()
        .column_as(chat_message::Column::Seq.count(), "counted")
        .filter(rows)
        .into_tuple()
        .one(connection)
        .await?;
    Ok(counted.unwrap_or_default())
}
