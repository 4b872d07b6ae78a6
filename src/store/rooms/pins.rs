//! Pins rooms to the top of a host's list, and unpins them.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect};

use crate::domain::{ChatroomId, Room};
use crate::store::entity::{chatroom, user};
use crate::store::rooms::row::to_room;
use crate::store::{RoomRepository, StoreError, millis};

/// Maximum number of rooms that a host may pin (SPEC 3).
pub const MAX_PINNED: u64 = 5;

/// Result of pinning or unpinning a room.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // one exists at a time, and is destructured at once
pub enum PinOutcome {
    /// The room is in the requested state. It may have been in that state before.
    Done(Room),
    /// The host has [`MAX_PINNED`] other pinned rooms.
    TooMany,
    /// A closed room cannot be pinned.
    Closed,
    /// The room does not exist.
    Gone,
}

impl RoomRepository<'_> {
    /// Pins or unpins a room. Concurrent calls never exceed [`MAX_PINNED`] per host.
    pub async fn pin(self, id: ChatroomId, pinned: bool, now: DateTime<Utc>) -> Result<PinOutcome, StoreError> {
        self.store.run("pins", || self.pin_once(id, pinned, millis(now))).await
    }

    async fn pin_once(self, id: ChatroomId, pinned: bool, now: DateTime<Utc>) -> Result<PinOutcome, DbErr> {
        let tx = self.store.begin().await?;
        // Dropping the transaction without a commit rolls it back. At this point, nothing has been written yet.
        let Some(mut row) = lock_with_host(&tx, id).await? else { return Ok(PinOutcome::Gone) };
        if row.is_fixed == pinned {
            return Ok(PinOutcome::Done(to_room(row)?));
        }
        if pinned {
            if row.is_closed {
                return Ok(PinOutcome::Closed);
            }
            let others = chatroom::Entity::find()
                .filter(chatroom::Column::HostId.eq(row.host_id))
                .filter(chatroom::Column::IsFixed.eq(true))
                .count(&tx)
                .await?;
            if others >= MAX_PINNED {
                return Ok(PinOutcome::TooMany);
            }
        }
        row.is_fixed = pinned;
        row.fixed_at = pinned.then_some(now);
        chatroom::Entity::update_many()
            .col_expr(chatroom::Column::IsFixed, row.is_fixed.into())
            .col_expr(chatroom::Column::FixedAt, row.fixed_at.into())
            .filter(chatroom::Column::Id.eq(id.0))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(PinOutcome::Done(to_room(row)?))
    }
}

/// Locks the row of the room's host and then the room. Returns the room, or `None` if it does not exist. The lock on
/// the host serialises pins in different rooms of that host.
async fn lock_with_host(tx: &DatabaseTransaction, id: ChatroomId) -> Result<Option<chatroom::Model>, DbErr> {
    // The host of a room never changes, so it may be read without a lock.
    let Some(row) = chatroom::Entity::find_by_id(id.0).one(tx).await? else { return Ok(None) };
    let _lock = user::Entity::find_by_id(row.host_id).lock_exclusive().one(tx).await?;
    chatroom::Entity::find_by_id(id.0).lock_exclusive().one(tx).await
}
