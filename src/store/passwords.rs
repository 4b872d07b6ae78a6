//! Passwords: changes, temporary passwords sent by e-mail, and the reactivation of accounts with a temporary password.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, UpdateMany};

use crate::domain::HostId;
use crate::store::entity::user;
use crate::store::hosts::email_key;
use crate::store::mails::mail::insert_mail;
use crate::store::{OutgoingMail, PasswordRepository, StoreError, TemporaryPassword, millis};

/// Result of replacing a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordReplacement {
    /// The password was replaced.
    Replaced,
    /// A concurrent change has already replaced the password.
    Outdated,
}

impl PasswordRepository<'_> {
    /// Sets a temporary password for the account with the address `email`, and e-mails the password. The account must
    /// be deactivated if `is_deleted` and active otherwise, and must not be disabled by an operator. If there is no
    /// such account, the same statements run with an e-mail that expires at once. The response time therefore does not
    /// reveal whether the account exists.
    pub async fn mail_temporary(
        self,
        email: &str,
        is_deleted: bool,
        temporary: &TemporaryPassword,
        mail: &OutgoingMail,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let now = millis(now);
        self.store.run("passwords", || self.mail_temporary_once(email, is_deleted, temporary, mail, now)).await
    }

    async fn mail_temporary_once(
        self,
        email: &str,
        is_deleted: bool,
        temporary: &TemporaryPassword,
        mail: &OutgoingMail,
        now: DateTime<Utc>,
    ) -> Result<(), DbErr> {
        let tx = self.store.begin().await?;
        // The e-mail is sent to the confirmed address of the account. Its spelling may differ from `email`.
        let known: Option<(i64, String)> = user::Entity::find()
            .select_only()
            .columns([user::Column::Id, user::Column::Email])
            .filter(user::Column::EmailKey.eq(email_key(email)))
            .filter(user::Column::IsDeleted.eq(is_deleted))
            .filter(user::Column::DisabledAt.is_null())
            .into_tuple()
            .one(&tx)
            .await?;
        let (id, recipient) = known.clone().unwrap_or_default();
        user::Entity::update_many()
            .col_expr(user::Column::TemporaryHash, temporary.hash.clone().into())
            .col_expr(user::Column::TemporaryUntil, millis(temporary.until).into())
            .filter(user::Column::Id.eq(id))
            .exec(&tx)
            .await?;
        let expires_at = if known.is_some() { mail.expires_at } else { now };
        insert_mail(&tx, &OutgoingMail { recipient, expires_at, ..mail.clone() }, now).await?;
        tx.commit().await
    }

    /// Makes the temporary password the permanent password of the account, and reactivates a deactivated account. Has
    /// no effect on an account that an operator has disabled.
    pub async fn accept_temporary(
        self,
        id: HostId,
        temporary: &TemporaryPassword,
        password_hash: &str,
        now: DateTime<Utc>,
    ) -> Result<PasswordReplacement, StoreError> {
        let now = millis(now);
        let done = self
            .store
            .run("passwords", || {
                set_password(id, password_hash, now)
                    .col_expr(user::Column::IsDeleted, false.into())
                    .col_expr(user::Column::DeletedAt, Expr::val(None::<DateTime<Utc>>))
                    .filter(user::Column::TemporaryHash.eq(temporary.hash.clone()))
                    .filter(user::Column::DisabledAt.is_null())
                    .exec(&self.store.writer)
            })
            .await?;
        Ok(if done.rows_affected > 0 { PasswordReplacement::Replaced } else { PasswordReplacement::Outdated })
    }

    /// Changes a password if the current hash is still `checked_hash`. Also deletes the temporary password, if there is
    /// one.
    pub async fn change(
        self,
        id: HostId,
        checked_hash: &str,
        password_hash: &str,
        now: DateTime<Utc>,
    ) -> Result<PasswordReplacement, StoreError> {
        let now = millis(now);
        let done = self
            .store
            .run("passwords", || {
                set_password(id, password_hash, now)
                    .filter(user::Column::PasswordHash.eq(checked_hash))
                    .exec(&self.store.writer)
            })
            .await?;
        Ok(if done.rows_affected > 0 { PasswordReplacement::Replaced } else { PasswordReplacement::Outdated })
    }

    /// Sets the password hash of a host and deletes its temporary password.
    pub async fn set_hash(self, host: HostId, hash: &str) -> Result<(), StoreError> {
        self.store
            .run("standing", || {
                user::Entity::update_many()
                    .col_expr(user::Column::PasswordHash, hash.into())
                    .col_expr(user::Column::TemporaryHash, Expr::val(None::<String>))
                    .col_expr(user::Column::TemporaryUntil, Expr::val(None::<DateTime<Utc>>))
                    .filter(user::Column::Id.eq(host.0))
                    .exec(&self.store.writer)
            })
            .await?;
        Ok(())
    }

    /// Returns at most `limit` password hashes that start with `beginning`, starting with the newest account.
    pub async fn hashes_with_prefix(self, beginning: &str, limit: u64) -> Result<Vec<String>, StoreError> {
        let hashes = self
            .store
            .run("standing", || {
                user::Entity::find()
                    .select_only()
                    .column(user::Column::PasswordHash)
                    .filter(user::Column::PasswordHash.starts_with(beginning))
                    .order_by_desc(user::Column::Id)
                    .limit(limit)
                    .into_tuple()
                    .all(&self.store.reader)
            })
            .await?;
        Ok(hashes)
    }

    /// Replaces the password hash of a host with another hash of the same password. Returns `false` if the current hash
    /// is not `checked`.
    pub async fn replace_hash(self, host: HostId, checked: &str, hash: &str) -> Result<bool, StoreError> {
        let replaced = self
            .store
            .run("standing", || {
                user::Entity::update_many()
                    .col_expr(user::Column::PasswordHash, hash.into())
                    .filter(user::Column::Id.eq(host.0))
                    .filter(user::Column::PasswordHash.eq(checked))
                    .exec(&self.store.writer)
            })
            .await?;
        Ok(replaced.rows_affected > 0)
    }
}

/// Builds the update that sets a password and deletes the temporary one.
fn set_password(id: HostId, hash: &str, now: DateTime<Utc>) -> UpdateMany<user::Entity> {
    user::Entity::update_many()
        .col_expr(user::Column::PasswordHash, hash.into())
        .col_expr(user::Column::TemporaryHash, Expr::val(None::<String>))
        .col_expr(user::Column::TemporaryUntil, Expr::val(None::<DateTime<Utc>>))
        .col_expr(user::Column::UpdatedAt, now.into())
        .filter(user::Column::Id.eq(id.0))
}
