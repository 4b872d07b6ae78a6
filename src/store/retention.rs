//! Retention (SPEC 6.4): deletes the messages of rooms that were closed long ago.
//!
//! One conditional update purges a room: it raises `purged_through` and sets `is_purging`. Messages up to
//! `purged_through` are not visible. Their rows are deleted later, in batches. `is_purging` marks rooms that may still
//! have such rows, so that any node can continue.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, Query};
use sea_orm::{
    ColumnTrait, Condition, DbErr, EntityTrait, ExprTrait as _, JoinType, PaginatorTrait as _, QueryFilter, QueryOrder,
    QuerySelect, RelationDef,
};

use crate::domain::{ChatroomId, RoomName, Seq};
use crate::store::entity::{chat_message, chatroom};
use crate::store::{RetentionRepository, StoreError, from_column, mails, millis, parse_column, to_column};

/// Generated column with the value of `last_seq > purged_through`, for the index on due rooms. The entity omits the
/// column, because it is never written.
const HAS_MESSAGES: &str = "has_messages";

/// A purged room that may still have rows to delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgedRoom {
    /// Row id.
    pub id: ChatroomId,
    /// Public name of the room.
    pub name: RoomName,
    /// Messages up to this sequence number are not visible.
    pub through: Seq,
}

impl RetentionRepository<'_> {
    /// Purges up to `limit` rooms that were closed before `closed_before` and are still closed: their messages are no
    /// longer visible or counted. Returns the number of purged rooms. A room that is resumed concurrently keeps its
    /// messages.
    pub async fn purge(self, closed_before: DateTime<Utc>, limit: u64) -> Result<u64, StoreError> {
        let is_due = is_due(closed_before);
        self.store.run("retention", || self.purge_once(&is_due, limit)).await
    }

    async fn purge_once(self, is_due: &Condition, limit: u64) -> Result<u64, DbErr> {
        use chatroom::Column;
        let mut due: Vec<i64> = chatroom::Entity::find()
            .select_only()
            .column(Column::Id)
            .filter(is_due.clone())
            .order_by_asc(Column::ClosedAt)
            .limit(limit)
            .into_tuple()
            .all(&self.store.writer)
            .await?;
        if due.is_empty() {
            return Ok(0);
        }
        due.sort_unstable();
        let purged = chatroom::Entity::update_many()
            .col_expr(Column::PurgedThrough, Expr::col(Column::LastSeq))
            .col_expr(Column::CountedThrough, Expr::col(Column::LastSeq))
            .col_expr(Column::MessageCount, 0.into())
            .col_expr(Column::UnreadCount, 0.into())
            .col_expr(Column::LatestMsg, Option::<String>::None.into())
            .col_expr(Column::LatestMsgAt, Option::<DateTime<Utc>>::None.into())
            .col_expr(Column::IsPurging, true.into())
            .filter(Column::Id.is_in(due))
            // The condition is repeated, because a room may have been resumed since it was selected.
            .filter(is_due.clone())
            .exec(&self.store.writer)
            .await?;
        Ok(purged.rows_affected)
    }

    /// Returns the number of rooms that [`purge`](Self::purge) would purge.
    pub async fn count_rooms(self, closed_before: DateTime<Utc>) -> Result<u64, StoreError> {
        let rooms = chatroom::Entity::find().filter(is_due(closed_before));
        self.store.run("retention", || rooms.clone().count(&self.store.reader)).await
    }

    /// Returns the number of messages that [`purge`](Self::purge) would purge.
    pub async fn count_messages(self, closed_before: DateTime<Utc>) -> Result<u64, StoreError> {
        let rows =
            chat_message::Entity::find().join(JoinType::InnerJoin, of_room()).filter(is_due(closed_before)).filter(
                Expr::col((chat_message::Entity, chat_message::Column::Seq))
                    .gt(Expr::col((chatroom::Entity, chatroom::Column::PurgedThrough))),
            );
        self.store.run("retention", || rows.clone().count(&self.store.reader)).await
    }

    /// Returns purged rooms that may still have rows to delete.
    pub async fn purged(self, limit: u64) -> Result<Vec<PurgedRoom>, StoreError> {
        let rooms = chatroom::Entity::find()
            .select_only()
            .columns([chatroom::Column::Id, chatroom::Column::Name, chatroom::Column::PurgedThrough])
            .filter(chatroom::Column::IsPurging.eq(true))
            .order_by_asc(chatroom::Column::Id)
            .limit(limit);
        let rows: Vec<(i64, String, i64)> =
            self.store.run("retention", || rooms.clone().into_tuple().all(&self.store.writer)).await?;
        let rooms = rows.into_iter().map(|(id, name, through)| {
            let name = parse_column("chatroom.name", &name)?;
            Ok(PurgedRoom { id: ChatroomId(id), name, through: from_column(through) })
        });
        Ok(rooms.collect::<Result<_, DbErr>>()?)
    }

    /// Removes purged text from waiting e-mails (SPEC 6.7) and clears `is_purging` if no purged row is left. Returns
    /// `false` if rows are left or the room was purged again.
    pub async fn finish(self, room: PurgedRoom) -> Result<bool, StoreError> {
        let through = to_column(room.through);
        let left = Query::select()
            .expr(Expr::val(1))
            .from(chat_message::Entity)
            .and_where(chat_message::Column::ChatroomId.eq(room.id.0))
            .and_where(chat_message::Column::Seq.lte(through))
            .take();
        let finished = self
            .store
            .run("retention", || async {
                let tx = self.store.begin().await?;
                mails::remove_text(&tx, room.id, Some(through)).await?;
                let finished = chatroom::Entity::update_many()
                    .col_expr(chatroom::Column::IsPurging, false.into())
                    .filter(chatroom::Column::Id.eq(room.id.0))
                    .filter(chatroom::Column::PurgedThrough.eq(through))
                    .filter(Expr::exists(left.clone()).not())
                    .exec(&tx)
                    .await?;
                tx.commit().await?;
                Ok(finished)
            })
            .await?;
        Ok(finished.rows_affected > 0)
    }

    /// Returns the number of purged messages whose rows still exist.
    pub async fn count_purged_messages(self) -> Result<u64, StoreError> {
        let rows = chat_message::Entity::find()
            .join(JoinType::InnerJoin, of_room())
            .filter(chatroom::Column::IsPurging.eq(true))
            .filter(
                Expr::col((chat_message::Entity, chat_message::Column::Seq))
                    .lte(Expr::col((chatroom::Entity, chatroom::Column::PurgedThrough))),
            );
        self.store.run("retention", || rows.clone().count(&self.store.reader)).await
    }
}

fn of_room() -> RelationDef {
    let of_room = chat_message::Entity::belongs_to(chatroom::Entity);
    of_room.from(chat_message::Column::ChatroomId).to(chatroom::Column::Id).into()
}

/// Selects the rooms whose messages are to be purged.
fn is_due(closed_before: DateTime<Utc>) -> Condition {
    Condition::all()
        .add(chatroom::Column::IsClosed.eq(true))
        .add(Expr::col(HAS_MESSAGES).eq(true))
        .add(Expr::col(chatroom::Column::ClosedAt).lt(millis(closed_before)))
}
