//! Rooms: opening, finding and listing them.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::ActiveValue::NotSet;
use sea_orm::sea_query::IntoCondition;
use sea_orm::sea_query::{Expr, LikeExpr};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, DbErr, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    Select, SqlErr,
};

use super::entity::chatroom;
use super::{Store, StoreError, from_column, millis, parse_column, webhook_events};
use crate::domain::{ChatroomId, HostId, Room, RoomName};

/// A room to be.
#[derive(Clone, Debug)]
pub struct NewRoom {
    /// Its host.
    pub host: HostId,
    /// The guest's nickname.
    pub guest: String,
    /// Public name, drawn by the caller.
    pub name: RoomName,
    /// A repeated call with the same key returns the room that the first one made (SPEC 3).
    pub idempotency_key: Option<String>,
    /// The broker's life at present, so that the room's first seed needs no jump.
    pub life: Option<String>,
}

/// Which rooms of a host's list are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RoomFilter {
    /// A part of the guest's nickname.
    pub search: Option<String>,
    /// Only closed ones, or only open ones.
    pub is_closed: Option<bool>,
}

impl Store {
    /// Opens a room, or returns the one that the same host's call with the same `idempotency_key` opened.
    ///
    /// # Errors
    /// `Conflict` when the name is taken.
    pub async fn create_room(&self, new: NewRoom, now: DateTime<Utc>) -> Result<Room, StoreError> {
        let (new, now) = (&new, millis(now));
        let room = self.run(|| self.create_room_once(new, now)).await?;
        Ok(to_room(room)?)
    }

    async fn create_room_once(&self, new: &NewRoom, now: DateTime<Utc>) -> Result<chatroom::Model, DbErr> {
        if let Some(known) = self.room_by_key(new).await? {
            return Ok(known);
        }
        let mut row = chatroom::Model {
            id: 0,
            host_id: new.host.0,
            guest: new.guest.clone(),
            name: new.name.to_string(),
            latest_msg: None,
            latest_msg_at: None,
            last_checked_at: None,
            is_closed: false,
            closed_at: None,
            is_fixed: false,
            fixed_at: None,
            created_at: now,
            updated_at: now,
            last_seq: 0,
            last_life: new.life.clone(),
            state_version: 0,
            purged_through: 0,
            idempotency_key: new.idempotency_key.clone(),
            message_count: 0,
            unread_count: 0,
            counted_through: 0,
            is_purging: false,
            guest_email: None,
            guest_language: None,
            guest_seen_at: None,
            checked_seq: None,
            guest_seen_seq: None,
        };
        let values = chatroom::ActiveModel { id: NotSet, ..chatroom::ActiveModel::from(row.clone()).reset_all() };
        let tx = self.begin().await?;
        match chatroom::Entity::insert(values).exec(&tx).await {
            Ok(inserted) => {
                row.id = inserted.last_insert_id;
                webhook_events::room_created(&tx, &row).await?;
                tx.commit().await?;
                Ok(row)
            }
            // Another call with the same key was first: its room is the room.
            Err(error) if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => {
                tx.rollback().await?;
                self.room_by_key(new).await?.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn room_by_key(&self, new: &NewRoom) -> Result<Option<chatroom::Model>, DbErr> {
        let Some(key) = &new.idempotency_key else { return Ok(None) };
        chatroom::Entity::find()
            .filter(chatroom::Column::HostId.eq(new.host.0))
            .filter(chatroom::Column::IdempotencyKey.eq(key.as_str()))
            .one(&self.writer)
            .await
    }

    /// A room by its row.
    pub async fn room(&self, id: ChatroomId) -> Result<Option<Room>, StoreError> {
        let row = self.run(|| chatroom::Entity::find_by_id(id.0).one(&self.reader)).await?;
        Ok(row.map(to_room).transpose()?)
    }

    /// A room by its public name.
    pub async fn room_by_name(&self, name: RoomName) -> Result<Option<Room>, StoreError> {
        let is_it = chatroom::Column::Name.eq(name.as_str());
        let row = self.run(|| chatroom::Entity::find().filter(is_it.clone()).one(&self.reader)).await?;
        Ok(row.map(to_room).transpose()?)
    }

    /// A page of a host's list, and how many rooms it has in all: pinned first, the newest pin on top, then by `updated_at`
    /// descending. More than [`COUNTED`] are counted once a minute.
    pub async fn rooms_of(
        &self,
        host: HostId,
        filter: RoomFilter,
        offset: u64,
        limit: u64,
    ) -> Result<(u64, Vec<Room>), StoreError> {
        self.rooms_beside(host, filter, &[], offset, limit).await
    }

    /// Likewise, with a page of the list without some rooms. These are counted.
    pub async fn rooms_beside(
        &self,
        host: HostId,
        filter: RoomFilter,
        others: &[ChatroomId],
        offset: u64,
        limit: u64,
    ) -> Result<(u64, Vec<Room>), StoreError> {
        let listed = Listed::of(host, &filter);
        let mut page = listed.clone();
        let count = match self.few(&listed, filter.search.is_some()).await? {
            Some(few) => {
                let count = few.len() as u64;
                page = Listed(Condition::all().add(chatroom::Column::Id.is_in(few)));
                count
            }
            None => self.count_rooms(host, &filter, &listed).await?,
        };
        if count <= offset {
            return Ok((count, Vec::new()));
        }
        if !others.is_empty() {
            page.0 = page.0.add(chatroom::Column::Id.is_not_in(others.iter().map(|room| room.0)));
        }
        let ids = page.ids().offset(offset).limit(limit);
        let ids: Vec<i64> = self.run(|| ids.clone().into_tuple().all(&self.reader)).await?;
        let mut rooms = self.rooms_where(chatroom::Column::Id.is_in(ids.clone())).await?;
        rooms.sort_by_key(|room| ids.iter().position(|id| *id == room.id.0));
        Ok((count, rooms))
    }

    /// Those of a host's rooms that have one of these names and pass a filter.
    pub async fn listed_rooms(
        &self,
        host: HostId,
        filter: &RoomFilter,
        names: &[RoomName],
    ) -> Result<Vec<Room>, StoreError> {
        let Listed(wanted) = Listed::of(host, filter);
        let named = chatroom::Column::Name.is_in(names.iter().map(|name| name.as_str()));
        self.rooms_where(wanted.add(named)).await
    }

    /// Rooms by their rows, in no order.
    pub async fn rooms(&self, ids: &[ChatroomId]) -> Result<Vec<Room>, StoreError> {
        self.rooms_where(chatroom::Column::Id.is_in(ids.iter().map(|id| id.0))).await
    }

    async fn rooms_where(&self, wanted: impl IntoCondition) -> Result<Vec<Room>, StoreError> {
        let rooms = chatroom::Entity::find().filter(wanted);
        let rows = self.run(|| rooms.clone().all(&self.reader)).await?;
        Ok(rows.into_iter().map(to_room).collect::<Result<_, _>>()?)
    }

    /// All rooms of a search, if there are at most [`FEW`]. Those are sorted; to find one after the other in the order of the list
    /// would take a walk through all of it.
    async fn few(&self, listed: &Listed, is_search: bool) -> Result<Option<Vec<i64>>, StoreError> {
        if !is_search {
            return Ok(None);
        }
        let matches = listed.select().column(chatroom::Column::Id).limit(FEW + 1);
        let few: Vec<i64> = self.run(|| matches.clone().into_tuple().all(&self.reader)).await?;
        Ok((few.len() as u64 <= FEW).then_some(few))
    }

    async fn count_rooms(&self, host: HostId, filter: &RoomFilter, listed: &Listed) -> Result<u64, StoreError> {
        let all = listed.select().column_as(chatroom::Column::Id.count(), "rooms");
        let count = async {
            let counted: Option<i64> = self.run(|| all.clone().into_tuple().one(&self.reader)).await?;
            Ok(counted.map_or(0, from_column))
        };
        let beyond = listed.select().column(chatroom::Column::Id).offset(COUNTED);
        if self.run(|| beyond.clone().into_tuple::<i64>().one(&self.reader)).await?.is_none() {
            return count.await;
        }
        let counted = self.shared.room_counts.try_get_with((host, filter.clone()), count).await;
        counted.map_err(|error: Arc<StoreError>| (*error).clone())
    }
}

/// The longest list that is counted at each call.
const COUNTED: u64 = 10_000;

/// How many rooms of a search are sorted rather than walked to.
const FEW: u64 = 1_000;

/// Numbers of rooms of long lists, by host and filter, each for a minute.
pub(super) type RoomCountCache = moka::future::Cache<(HostId, RoomFilter), u64>;

pub(super) fn room_count_cache() -> RoomCountCache {
    moka::future::Cache::builder().max_capacity(1_000).time_to_live(Duration::from_secs(60)).build()
}

/// Rooms of a host's list. What is selected by them comes from `chatroom_listed` alone, without a row being read.
#[derive(Clone)]
pub(super) struct Listed(Condition);

impl Listed {
    pub(super) fn of(host: HostId, filter: &RoomFilter) -> Self {
        let mut wanted = Condition::all().add(chatroom::Column::HostId.eq(host.0));
        if let Some(is_closed) = filter.is_closed {
            wanted = wanted.add(chatroom::Column::IsClosed.eq(is_closed));
        }
        if let Some(search) = filter.search.as_ref().filter(|search| !search.is_empty()) {
            wanted = if search.contains(char::is_control) {
                // No nickname has one. For SQLite a NUL ends the pattern, and what is left of it matches everything.
                wanted.add(Expr::cust("1 = 0"))
            } else {
                wanted.add(Expr::col(chatroom::Column::Guest).like(containing(search)))
            };
        }
        Self(wanted)
    }

    fn select(&self) -> Select<chatroom::Entity> {
        chatroom::Entity::find().select_only().filter(self.0.clone())
    }

    /// Their ids in the order of the list, which is that of the index.
    pub(super) fn ids(&self) -> Select<chatroom::Entity> {
        use chatroom::Column::{FixedAt, Guest, Id, IsClosed, IsFixed, UpdatedAt};
        let ids = self.select().column(Id);
        [IsFixed, FixedAt, UpdatedAt, IsClosed, Guest, Id].into_iter().fold(ids, QueryOrder::order_by_desc)
    }
}

/// A pattern for text that contains `part`. The escape is not a backslash, which MySQL would take for its own.
fn containing(part: &str) -> LikeExpr {
    let mut pattern = String::with_capacity(part.len() + 2);
    pattern.push('%');
    for letter in part.chars() {
        if matches!(letter, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    LikeExpr::new(pattern).escape('!')
}

pub(super) fn to_room(row: chatroom::Model) -> Result<Room, DbErr> {
    Ok(Room {
        counts: (&row).into(),
        has_contact: row.guest_email.is_some(),
        id: ChatroomId(row.id),
        host: HostId(row.host_id),
        guest: row.guest,
        name: parse_column("chatroom.name", &row.name)?,
        latest_msg: row.latest_msg,
        latest_msg_at: row.latest_msg_at,
        last_checked_at: row.last_checked_at,
        checked_seq: row.checked_seq.map(from_column),
        is_closed: row.is_closed,
        closed_at: row.closed_at,
        is_fixed: row.is_fixed,
        fixed_at: row.fixed_at,
        created_at: row.created_at,
        updated_at: row.updated_at,
        last_seq: from_column(row.last_seq),
        last_life: row.last_life,
        state_version: from_column(row.state_version),
        purged_through: from_column(row.purged_through),
    })
}
