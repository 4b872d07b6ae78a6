//! Rooms that nothing moves any more (SPEC 6.5), and those that never had a message (SPEC 6.6). Closing or deleting one is a change
//! like any other: see `room_events`.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, ExprTrait as _, PaginatorTrait as _, QueryFilter, QueryOrder, QuerySelect,
};

use super::entity::chatroom;
use super::rooms::to_room;
use super::{Store, StoreError, millis};
use crate::domain::Room;

/// `last_seq = 0`, as the index has it. Not a column of the entity: it is never written.
const IS_EMPTY: &str = "is_empty";

impl Store {
    /// Rooms opened before `since` that never had a message, the oldest first, behind `after`. An open room that was resumed later is
    /// not among them: its guest was back.
    pub async fn empty_rooms(
        &self,
        since: DateTime<Utc>,
        after: Option<&Room>,
        limit: u64,
    ) -> Result<Vec<Room>, StoreError> {
        use chatroom::Column::{CreatedAt, Id};
        let mut is_wanted = is_empty(since);
        if let Some(after) = after {
            let beside = Condition::all().add(CreatedAt.eq(after.created_at)).add(Id.gt(after.id.0));
            is_wanted = is_wanted
                // The same once more, for the index.
                .add(CreatedAt.gte(after.created_at))
                .add(Condition::any().add(CreatedAt.gt(after.created_at)).add(beside));
        }
        let rooms = chatroom::Entity::find().filter(is_wanted).order_by_asc(CreatedAt).order_by_asc(Id).limit(limit);
        let rows = self.run(|| rooms.clone().all(&self.reader)).await?;
        Ok(rows.into_iter().map(to_room).collect::<Result<_, _>>()?)
    }

    /// How many such rooms there are.
    pub async fn count_empty_rooms(&self, since: DateTime<Utc>) -> Result<u64, StoreError> {
        let rooms = chatroom::Entity::find().filter(is_empty(since));
        self.run(|| rooms.clone().count(&self.reader)).await
    }

    /// Open rooms that neither a message nor a change of state has moved since `idle_since`, the longest idle first, behind `after`.
    ///
    /// That a room was resumed counts, too: else one would be closed again the moment its guest comes back.
    pub async fn idle_rooms(
        &self,
        idle_since: DateTime<Utc>,
        after: Option<&Room>,
        limit: u64,
    ) -> Result<Vec<Room>, StoreError> {
        use chatroom::Column::{Id, UpdatedAt};
        let mut is_wanted = is_idle(idle_since);
        if let Some(after) = after {
            let beside = Condition::all().add(UpdatedAt.eq(after.updated_at)).add(Id.gt(after.id.0));
            is_wanted = is_wanted
                // The same once more, for the index.
                .add(UpdatedAt.gte(after.updated_at))
                .add(Condition::any().add(UpdatedAt.gt(after.updated_at)).add(beside));
        }
        let rooms = chatroom::Entity::find().filter(is_wanted).order_by_asc(UpdatedAt).order_by_asc(Id).limit(limit);
        let rows = self.run(|| rooms.clone().all(&self.reader)).await?;
        Ok(rows.into_iter().map(to_room).collect::<Result<_, _>>()?)
    }

    /// How many rooms are idle.
    pub async fn count_idle_rooms(&self, idle_since: DateTime<Utc>) -> Result<u64, StoreError> {
        let rooms = chatroom::Entity::find().filter(is_idle(idle_since));
        self.run(|| rooms.clone().count(&self.reader)).await
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
