//! Retention (SPEC 6.4): the messages of rooms that were closed long ago go.
//!
//! One conditional statement decides: it raises `purged_through`, and from then on no reader sees what is below. The rows go at
//! leisure; that some may be left is written down with the decision, so whoever comes next finds them.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, Query};
use sea_orm::{
    ColumnTrait, Condition, DbErr, EntityTrait, ExprTrait as _, JoinType, PaginatorTrait as _, QueryFilter, QueryOrder,
    QuerySelect, RelationDef,
};

use super::entity::{chat_message, chatroom};
use super::{Store, StoreError, from_column, millis, outbox, parse_column, to_column};
use crate::domain::{ChatroomId, RoomName, Seq};

/// `last_seq > purged_through`, as the index has it. No column of the entity: nobody writes it.
const HAS_MESSAGES: &str = "has_messages";

/// A room whose messages are purged, and whose rows may not all be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgedRoom {
    /// Row id.
    pub id: ChatroomId,
    /// Its public name.
    pub name: RoomName,
    /// Nobody sees what is up to here.
    pub through: Seq,
}

impl Store {
    /// Purges up to `limit` rooms that were closed before `closed_before` and are still: their messages are seen no more, and
    /// counted no more. Returns how many; a room that was resumed in this very moment keeps everything.
    pub async fn purge_rooms(&self, closed_before: DateTime<Utc>, limit: u64) -> Result<u64, StoreError> {
        let is_due = is_due(closed_before);
        self.run(|| self.purge_rooms_once(&is_due, limit)).await
    }

    async fn purge_rooms_once(&self, is_due: &Condition, limit: u64) -> Result<u64, DbErr> {
        use chatroom::Column;
        let mut due: Vec<i64> = chatroom::Entity::find()
            .select_only()
            .column(Column::Id)
            .filter(is_due.clone())
            .order_by_asc(Column::ClosedAt)
            .limit(limit)
            .into_tuple()
            .all(&self.writer)
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
            // Once more: what was found is a moment old.
            .filter(is_due.clone())
            .exec(&self.writer)
            .await?;
        Ok(purged.rows_affected)
    }

    /// How many rooms [`purge_rooms`](Self::purge_rooms) would find.
    pub async fn count_rooms_to_purge(&self, closed_before: DateTime<Utc>) -> Result<u64, StoreError> {
        let rooms = chatroom::Entity::find().filter(is_due(closed_before));
        self.run(|| rooms.clone().count(&self.reader)).await
    }

    /// How many messages these rooms have.
    pub async fn count_messages_to_purge(&self, closed_before: DateTime<Utc>) -> Result<u64, StoreError> {
        let rows =
            chat_message::Entity::find().join(JoinType::InnerJoin, of_room()).filter(is_due(closed_before)).filter(
                Expr::col((chat_message::Entity, chat_message::Column::Seq))
                    .gt(Expr::col((chatroom::Entity, chatroom::Column::PurgedThrough))),
            );
        self.run(|| rows.clone().count(&self.reader)).await
    }

    /// Purged rooms whose rows may not all be gone.
    pub async fn purged_rooms(&self, limit: u64) -> Result<Vec<PurgedRoom>, StoreError> {
        let rooms = chatroom::Entity::find()
            .select_only()
            .columns([chatroom::Column::Id, chatroom::Column::Name, chatroom::Column::PurgedThrough])
            .filter(chatroom::Column::IsPurging.eq(true))
            .order_by_asc(chatroom::Column::Id)
            .limit(limit);
        let rows: Vec<(i64, String, i64)> = self.run(|| rooms.clone().into_tuple().all(&self.writer)).await?;
        let rooms = rows.into_iter().map(|(id, name, through)| {
            let name = parse_column("chatroom.name", &name)?;
            Ok(PurgedRoom { id: ChatroomId(id), name, through: from_column(through) })
        });
        Ok(rooms.collect::<Result<_, DbErr>>()?)
    }

    /// Removes what was purged from e-mails that wait (SPEC 6.7), and notes that no row of it is left, if that is so. `false`: there
    /// is more to delete, because another process deletes at the same time or the room was purged again.
    pub async fn finish_purge(&self, room: PurgedRoom) -> Result<bool, StoreError> {
        let through = to_column(room.through);
        let left = Query::select()
            .expr(Expr::val(1))
            .from(chat_message::Entity)
            .and_where(chat_message::Column::ChatroomId.eq(room.id.0))
            .and_where(chat_message::Column::Seq.lte(through))
            .take();
        let finished = self
            .run(|| async {
                let tx = self.begin().await?;
                outbox::remove_text(&tx, room.id, Some(through)).await?;
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

    /// How many rows are left of what was purged.
    pub async fn count_purged_messages(&self) -> Result<u64, StoreError> {
        let rows = chat_message::Entity::find()
            .join(JoinType::InnerJoin, of_room())
            .filter(chatroom::Column::IsPurging.eq(true))
            .filter(
                Expr::col((chat_message::Entity, chat_message::Column::Seq))
                    .lte(Expr::col((chatroom::Entity, chatroom::Column::PurgedThrough))),
            );
        self.run(|| rows.clone().count(&self.reader)).await
    }
}

fn of_room() -> RelationDef {
    let of_room = chat_message::Entity::belongs_to(chatroom::Entity);
    of_room.from(chat_message::Column::ChatroomId).to(chatroom::Column::Id).into()
}

/// Which rooms' messages are to go.
fn is_due(closed_before: DateTime<Utc>) -> Condition {
    Condition::all()
        .add(chatroom::Column::IsClosed.eq(true))
        .add(Expr::col(HAS_MESSAGES).eq(true))
        .add(Expr::col(chatroom::Column::ClosedAt).lt(millis(closed_before)))
}
