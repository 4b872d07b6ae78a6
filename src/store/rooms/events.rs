//! Changes to a room's state, and the events with which the changes are applied to the broker.
//!
//! **Invariant:** a change and its event are written in one transaction. Any node may apply an event, any number of
//! times: an event with an outdated version has no effect.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::{ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::domain::{ChatroomId, CloseCause, HostId, Room, RoomChange, RoomName, RoomState};
use crate::store::entity::{chatroom, room_event};
use crate::store::rooms::row::to_room;
use crate::store::webhooks::events as webhook_events;
use crate::store::{RoomRepository, StoreError, from_column, mails, millis, parse_column, unattended};

/// Maximum plausible clock skew. An event whose creation time is further in the future was written by a clock that was
/// ahead. The skew between nodes with synchronised clocks is smaller.
const CLOCK_WAS_AHEAD: TimeDelta = TimeDelta::minutes(1);

/// A change to a room's state that may not have been applied to the broker yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomEvent {
    /// Row id.
    pub id: i64,
    /// Public name of the room.
    pub room: RoomName,
    /// Id of the room. After a deletion, the room no longer has a row.
    pub chatroom: ChatroomId,
    /// Host of the room.
    pub host: HostId,
    /// The room's `state_version` after the change.
    pub version: u64,
    /// Kind of the change.
    pub change: RoomChange,
    /// Time of the change.
    pub created_at: DateTime<Utc>,
}

/// Result of a requested change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedRoom {
    /// The room after the change; for a deletion, the room before the change.
    pub room: Room,
    /// Event of the change; `None` if the room was already in the requested state.
    pub event: Option<RoomEvent>,
}

/// Condition for a change, checked while the room's lock is held.
#[derive(Clone, Copy)]
enum Only {
    /// No condition.
    Always,
    /// The room has had no activity since this time.
    IdleSince(DateTime<Utc>),
    /// The room has never had a message.
    Empty,
}

impl Only {
    fn holds(self, room: &Room) -> bool {
        match self {
            Self::Always => true,
            Self::IdleSince(since) => room.updated_at < since,
            Self::Empty => room.last_seq == 0,
        }
    }
}

impl RoomRepository<'_> {
    /// Closes, resumes or deletes a room and writes the event in the same transaction. Closing also unpins the room.
    /// Returns `None` if the room does not exist.
    pub async fn change(
        self,
        name: RoomName,
        change: RoomChange,
        now: DateTime<Utc>,
    ) -> Result<Option<ChangedRoom>, StoreError> {
        self.store.run("room_events", || self.change_once(name, change, millis(now), Only::Always)).await
    }

    /// Closes a room that has been idle since before `idle_since`, and returns the event. Returns `None` if the room
    /// has been active since, is already closed, or does not exist.
    pub async fn close_idle(
        self,
        name: RoomName,
        idle_since: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Option<RoomEvent>, StoreError> {
        let (only, now) = (Only::IdleSince(millis(idle_since)), millis(now));
        let changed = self.store.run("room_events", || self.change_once(name, RoomChange::Close, now, only)).await?;
        Ok(changed.and_then(|changed| changed.event))
    }

    /// Deletes a room that never had a message, and returns the event. Returns `None` if the room has a message or does
    /// not exist.
    pub async fn delete_empty(self, name: RoomName, now: DateTime<Utc>) -> Result<Option<RoomEvent>, StoreError> {
        let now = millis(now);
        let changed =
            self.store.run("room_events", || self.change_once(name, RoomChange::Delete, now, Only::Empty)).await?;
        Ok(changed.and_then(|changed| changed.event))
    }

    async fn change_once(
        self,
        name: RoomName,
        change: RoomChange,
        now: DateTime<Utc>,
        only: Only,
    ) -> Result<Option<ChangedRoom>, DbErr> {
        let tx = self.store.begin().await?;
        let row =
            chatroom::Entity::find().filter(chatroom::Column::Name.eq(name.as_str())).lock_exclusive().one(&tx).await?;
        let Some(row) = row else { return Ok(None) };
        let before = to_room(row)?;
        if before.state() == change.state() || !only.holds(&before) {
            return Ok(Some(ChangedRoom { room: before, event: None }));
        }
        let version = before.state_version + 1;
        let room = match change {
            RoomChange::Delete => {
                chatroom::Entity::delete_by_id(before.id.0).exec(&tx).await?;
                unattended::forget(&tx, before.id).await?;
                mails::remove_text(&tx, before.id, None).await?;
                if before.state() == RoomState::Open {
                    webhook_events::room_closed(&tx, &before, version, CloseCause::Deleted, now).await?;
                }
                before
            }
            RoomChange::Close | RoomChange::Resume => {
                let is_closed = change == RoomChange::Close;
                let after = Room {
                    is_closed,
                    closed_at: is_closed.then_some(now),
                    is_fixed: before.is_fixed && !is_closed,
                    fixed_at: before.fixed_at.filter(|_| !is_closed),
                    updated_at: Ord::max(before.updated_at, now),
                    state_version: version,
                    ..before
                };
                update_state(&tx, &after).await?;
                if is_closed {
                    let why = if matches!(only, Only::IdleSince(_)) { CloseCause::Idle } else { CloseCause::Host };
                    webhook_events::room_closed(&tx, &after, version, why, now).await?;
                }
                after
            }
        };
        let mut event =
            RoomEvent { id: 0, room: name, chatroom: room.id, host: room.host, version, change, created_at: now };
        event.id = insert_event(&tx, &event).await?;
        tx.commit().await?;
        Ok(Some(ChangedRoom { room, event: Some(event) }))
    }

    /// Returns events created before `before`, oldest first. Also returns events whose creation time is so far in the
    /// future that a clock must have been ahead.
    pub async fn pending_events(self, before: DateTime<Utc>, limit: u64) -> Result<Vec<RoomEvent>, StoreError> {
        let rows = self
            .store
            .run("room_events", || {
                room_event::Entity::find()
                    .filter(
                        Condition::any()
                            .add(room_event::Column::CreatedAt.lt(millis(before)))
                            .add(room_event::Column::CreatedAt.gt(millis(before) + CLOCK_WAS_AHEAD)),
                    )
                    .order_by_asc(room_event::Column::CreatedAt)
                    .order_by_asc(room_event::Column::Id)
                    .limit(limit)
                    .all(&self.store.reader)
            })
            .await?;
        Ok(rows.into_iter().map(to_event).collect::<Result<_, _>>()?)
    }

    /// Deletes an event that the broker has applied. Idempotent.
    pub async fn finish_event(self, id: i64) -> Result<(), StoreError> {
        self.store.run("room_events", || room_event::Entity::delete_by_id(id).exec(&self.store.writer)).await?;
        Ok(())
    }
}

async fn update_state(tx: &DatabaseTransaction, after: &Room) -> Result<(), DbErr> {
    chatroom::Entity::update_many()
        .col_expr(chatroom::Column::IsClosed, after.is_closed.into())
        .col_expr(chatroom::Column::ClosedAt, after.closed_at.into())
        .col_expr(chatroom::Column::IsFixed, after.is_fixed.into())
        .col_expr(chatroom::Column::FixedAt, after.fixed_at.into())
        .col_expr(chatroom::Column::UpdatedAt, after.updated_at.into())
        .col_expr(chatroom::Column::StateVersion, crate::store::to_column(after.state_version).into())
        .filter(chatroom::Column::Id.eq(after.id.0))
        .exec(tx)
        .await?;
    Ok(())
}

async fn insert_event(tx: &DatabaseTransaction, event: &RoomEvent) -> Result<i64, DbErr> {
    let row = room_event::ActiveModel {
        id: NotSet,
        room: Set(event.room.to_string()),
        chatroom_id: Set(event.chatroom.0),
        host_id: Set(event.host.0),
        version: Set(crate::store::to_column(event.version)),
        kind: Set(event.change.as_str().to_owned()),
        created_at: Set(event.created_at),
    };
    Ok(room_event::Entity::insert(row).exec(tx).await?.last_insert_id)
}

fn to_event(row: room_event::Model) -> Result<RoomEvent, DbErr> {
    Ok(RoomEvent {
        id: row.id,
        room: parse_column("room_event.room", &row.room)?,
        chatroom: ChatroomId(row.chatroom_id),
        host: HostId(row.host_id),
        version: from_column(row.version),
        change: RoomChange::parse(&row.kind)
            .ok_or_else(|| DbErr::Type("room_event.kind holds an unknown word".to_owned()))?,
        created_at: row.created_at,
    })
}
