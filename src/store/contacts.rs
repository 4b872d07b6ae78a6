//! Where a guest is reached who left an address, and when he was last in his room.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, Condition, EntityTrait, ExprTrait, QueryFilter, QuerySelect};

use super::entity::chatroom;
use super::{RoomRow, Store, StoreError, millis};
use crate::domain::ChatroomId;

impl Store {
    /// Sets where a room's guest is reached, and in which language. `false`: there is no such room.
    pub async fn set_contact(
        &self,
        room: impl Into<RoomRow>,
        email: &str,
        language: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let (room, now) = (room.into(), millis(now));
        let changed = self
            .run(|| {
                chatroom::Entity::update_many()
                    .col_expr(chatroom::Column::GuestEmail, email.into())
                    .col_expr(chatroom::Column::GuestLanguage, language.into())
                    // He is there: what came before he has seen.
                    .col_expr(chatroom::Column::GuestSeenAt, now.into())
                    .filter(room.condition())
                    .exec(&self.writer)
            })
            .await?;
        Ok(changed.rows_affected > 0)
    }

    /// Where a room's guest is reached.
    pub async fn contact(&self, room: ChatroomId) -> Result<Option<String>, StoreError> {
        let found: Option<Option<String>> = self
            .run(|| {
                chatroom::Entity::find_by_id(room.0)
                    .select_only()
                    .column(chatroom::Column::GuestEmail)
                    .into_tuple()
                    .one(&self.reader)
            })
            .await?;
        Ok(found.flatten())
    }

    /// Forgets a guest's address, unless he has left another one.
    pub async fn forget_contact(&self, room: ChatroomId, email: &str) -> Result<(), StoreError> {
        self.run(|| {
            chatroom::Entity::update_many()
                .col_expr(chatroom::Column::GuestEmail, Option::<String>::None.into())
                .filter(chatroom::Column::Id.eq(room.0))
                .filter(chatroom::Column::GuestEmail.eq(email))
                .exec(&self.writer)
        })
        .await?;
        Ok(())
    }

    /// Notes that the guest of a room was in it at `at`, if anybody would mail him.
    pub async fn see_guest(&self, room: impl Into<RoomRow>, at: DateTime<Utc>) -> Result<(), StoreError> {
        use chatroom::Column::{GuestEmail, GuestSeenAt};
        let (room, at) = (room.into(), millis(at));
        let is_later = Condition::any().add(GuestSeenAt.is_null()).add(Expr::col(GuestSeenAt).lt(at));
        self.run(|| {
            chatroom::Entity::update_many()
                .col_expr(GuestSeenAt, at.into())
                .filter(room.condition())
                .filter(GuestEmail.is_not_null())
                .filter(is_later.clone())
                .exec(&self.writer)
        })
        .await?;
        Ok(())
    }
}
