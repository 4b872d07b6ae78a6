//! Rooms without recent activity (SPEC 6.5), and rooms that never had a message (SPEC 6.6). The functions in `events`
//! close or delete them, like other rooms.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, ExprTrait as _, PaginatorTrait as _, QueryFilter, QueryOrder, QuerySelect,
};

use crate::domain::Room;
use crate::store::entity::chatroom;
use crate::store::rooms::row::to_room;
use crate::store::{RoomRepository, StoreError, millis};

/// Generated column with the value of `last_seq = 0`, for the index on empty rooms. The entity omits the column,
/// because it is never written.
const IS_EMPTY: &str = "is_empty";

impl RoomRepository<'_> {
    /// Returns rooms created before `since` that never had a message, oldest first, starting after `after`. Excludes
    /// open rooms that were resumed after `since`, because their guests have returned.
    pub async fn empty(self, since: DateTime<Utc>, after: Option<&Room>, limit: u64) -> Result<Vec<Room>, StoreError> {
        use chatroom::Column::{CreatedAt, Id};
        let mut is_wanted = is_empty(since);
        if let Some(after) = after {
            let beside = Condition::all().add(CreatedAt.eq(after.created_at)).add(Id.gt(after.id.0));
            is_wanted = is_wanted
                // This condition is redundant. It lets the database use the index.
                .add(CreatedAt.gte(after.created_at))
                .add(Condition::any().add(CreatedAt.gt(after.created_at)).add(beside));
        }
        let rooms = chatroom::Entity::find().filter(is_wanted).order_by_asc(CreatedAt).order_by_asc(Id).limit(limit);
        let rows = self.store.run("idle", || rooms.clone().all(&self.store.reader)).await?;
        Ok(rows.into_iter().map(to_room).collect::<Result<_, _>>()?)
    }

    /// Returns the number of rooms that [`empty`](Self::empty) selects.
    pub async fn count_empty(self, since: DateTime<Utc>) -> Result<u64, StoreError> {
        let rooms = chatroom::Entity::find().filter(is_empty(since));
        self.store.run("idle", || rooms.clone().count(&self.store.reader)).await
    }

    /// Returns open rooms without a message or a change of state since `idle_since`, longest idle first, starting after
    /// `after`.
    ///
    /// Resuming counts as activity. Otherwise, a room would be closed again as soon as its guest returns.
    pub async fn idle(
        self,
        idle_since: DateTime<Utc>,
        after: Option<&Room>,
        limit: u64,
    ) -> Result<Vec<Room>, StoreError> {
        use chatroom::Column::{Id, UpdatedAt};
        let mut is_wanted = is_idle(idle_since);
        if let Some(after) = after {
            let beside = Condition::all().add(UpdatedAt.eq(after.updated_at)).add(Id.gt(after.id.0));
            is_wanted = is_wanted
                // This condition is redundant. It lets the database use the index.
                .add(UpdatedAt.gte(after.updated_at))
                .add(Condition::any().add(UpdatedAt.gt(after.updated_at)).add(beside));
        }
        let rooms = chatroom::Entity::find().filter(is_wanted).order_by_asc(UpdatedAt).order_by_asc(Id).limit(limit);
        let rows = self.store.run("idle", || rooms.clone().all(&self.store.reader)).await?;
        Ok(rows.into_iter().map(to_room).collect::<Result<_, _>>()?)
    }

    /// Returns the number of rooms that [`idle`](Self::idle) selects.
    pub async fn count_idle(self, idle_since: DateTime<Utc>) -> Result<u64, StoreError> {
        let rooms = chatroom::Entity::find().filter(is_idle(idle_since));
        self.store.run("idle", || rooms.clone().count(&self.store.reader)).await
    }
}

fn is_empty(since: DateTime<Utc>) -> Condition {
    let is_resumed = Condition::all()
        .add(chatroom::Column::IsClosed.eq(false))
        .add(Expr::col(chatroom::Column::UpdatedAt).gte(millis(since)));
    Condition::all()
        .add(Expr::col(IS_EMPTY).eq(true))
        .add(Expr::col(chatroom::Column::CreatedAt).lt(millis(since)))
        .add(is_resumed.not())
}

fn is_idle(idle_since: DateTime<Utc>) -> Condition {
    Condition::all()
        .add(chatroom::Column::IsClosed.eq(false))
        .add(Expr::col(chatroom::Column::UpdatedAt).lt(millis(idle_since)))
}
