//! Guests' e-mail addresses, and the last visit and the last seen message of each guest.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, Value};
use sea_orm::{ColumnTrait, Condition, EntityTrait, ExprTrait, QueryFilter, QuerySelect};

use crate::domain::{ChatroomId, Seq};
use crate::store::entity::chatroom;
use crate::store::{ContactRepository, RoomRow, StoreError, millis, to_column};

impl ContactRepository<'_> {
    /// Sets the e-mail address and the language of a room's guest. Returns `false` if the room does not exist.
    pub async fn set(
        self,
        room: impl Into<RoomRow>,
        email: &str,
        language: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let (room, now) = (room.into(), millis(now));
        let changed = self
            .store
            .run("contacts", || {
                chatroom::Entity::update_many()
                    .col_expr(chatroom::Column::GuestEmail, email.into())
                    .col_expr(chatroom::Column::GuestLanguage, language.into())
                    // The guest is present and has seen all earlier messages.
                    .col_expr(chatroom::Column::GuestSeenAt, now.into())
                    .col_expr(chatroom::Column::GuestSeenSeq, Expr::col(chatroom::Column::LastSeq))
                    .filter(room.condition())
                    .exec(&self.store.writer)
            })
            .await?;
        Ok(changed.rows_affected > 0)
    }

    /// Returns the e-mail address of a room's guest, or `None` if there is none.
    pub async fn get(self, room: ChatroomId) -> Result<Option<String>, StoreError> {
        let found: Option<Option<String>> = self
            .store
            .run("contacts", || {
                chatroom::Entity::find_by_id(room.0)
                    .select_only()
                    .column(chatroom::Column::GuestEmail)
                    .into_tuple()
                    .one(&self.store.reader)
            })
            .await?;
        Ok(found.flatten())
    }

    /// Deletes a guest's e-mail address if it is still `email`.
    pub async fn delete(self, room: ChatroomId, email: &str) -> Result<(), StoreError> {
        self.store
            .run("contacts", || {
                chatroom::Entity::update_many()
                    .col_expr(chatroom::Column::GuestEmail, Option::<String>::None.into())
                    .filter(chatroom::Column::Id.eq(room.0))
                    .filter(chatroom::Column::GuestEmail.eq(email))
                    .exec(&self.store.writer)
            })
            .await?;
        Ok(())
    }

    /// Records that the guest was in the room at `at` and has seen messages up to `through`. Has no effect if the guest
    /// has left no address. The stored time and sequence number never decrease.
    pub async fn mark_seen(self, room: impl Into<RoomRow>, through: Seq, at: DateTime<Utc>) -> Result<(), StoreError> {
        use chatroom::Column::{GuestEmail, GuestSeenAt, GuestSeenSeq};
        if through == 0 {
            // `through` is 0 if the guest was not admitted or the room has no messages.
            return Ok(());
        }
        let (room, through, at) = (room.into(), to_column(through), millis(at));
        let later = |column: chatroom::Column, to: Value| {
            let is_later = Condition::any().add(column.is_null()).add(Expr::col(column).lt(to.clone()));
            Expr::case(is_later, Expr::value(to)).finally(Expr::col(column))
        };
        self.store
            .run("contacts", || {
                chatroom::Entity::update_many()
                    .col_expr(GuestSeenAt, later(GuestSeenAt, at.into()).into())
                    .col_expr(GuestSeenSeq, later(GuestSeenSeq, through.into()).into())
                    .filter(room.condition())
                    .filter(GuestEmail.is_not_null())
                    .exec(&self.store.writer)
            })
            .await?;
        Ok(())
    }
}
