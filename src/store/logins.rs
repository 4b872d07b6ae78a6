//! Logins. A login is a family of refresh tokens. Only the newest generation of a family is valid.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, Condition, DbErr, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::domain::HostId;
use crate::store::entity::{login, user};
use crate::store::{LoginRepository, StoreError, from_column, millis, to_column};

/// Result of using a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// The token was the newest and has been replaced.
    Rotated {
        /// Host of the login.
        host: HostId,
        /// New generation.
        generation: u64,
        /// Time of the rotation.
        rotated_at: DateTime<Utc>,
    },
    /// The previous token was used again within the grace period, for example by a second tab. The login is unchanged.
    JustRotated {
        /// Host of the login.
        host: HostId,
        /// Current generation.
        generation: u64,
        /// Time of the last rotation.
        rotated_at: DateTime<Utc>,
    },
    /// An older token was used, so the token must have been copied. The login has been revoked.
    Theft {
        /// Host of the login.
        host: HostId,
    },
    /// The login is unknown, expired or revoked.
    Ended,
}

/// Result of starting a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginCreation {
    /// The login exists.
    Created,
    /// The account is deactivated, or its password has changed since it was checked.
    Rejected,
}

impl LoginRepository<'_> {
    /// Creates a login at generation 0 if the host is still active and the password hash has not changed since it was
    /// checked. Without this condition, a login with the old password could remain active after a concurrent password
    /// change.
    pub async fn create(
        self,
        sid: &str,
        host: HostId,
        checked_hash: &str,
        now: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    ) -> Result<LoginCreation, StoreError> {
        let row = &login::Model {
            sid: sid.to_owned(),
            user_id: host.0,
            generation: 0,
            created_at: millis(now),
            rotated_at: millis(now),
            expires_at: millis(expires_at),
            ended_at: None,
        };
        self.store.run("logins", || self.create_once(row, checked_hash)).await
    }

    async fn create_once(self, row: &login::Model, checked_hash: &str) -> Result<LoginCreation, DbErr> {
        let tx = self.store.begin().await?;
        // A concurrent password change or deactivation waits for this lock, and then revokes all existing logins,
        // including this one.
        let stands = user::Entity::find_by_id(row.user_id)
            .filter(user::Column::IsDeleted.eq(false))
            .filter(user::Column::PasswordHash.eq(checked_hash))
            .lock_shared()
            .one(&tx)
            .await?;
        if stands.is_none() {
            return Ok(LoginCreation::Rejected);
        }
        login::Entity::insert(login::ActiveModel::from(row.clone())).exec_without_returning(&tx).await?;
        tx.commit().await?;
        Ok(LoginCreation::Created)
    }

    /// Replaces the refresh token of one generation with that of the next generation. If several callers use the same
    /// token concurrently, one receives `Rotated` and the others receive `JustRotated`.
    pub async fn rotate(
        self,
        sid: &str,
        generation: u64,
        now: DateTime<Utc>,
        expires_at: DateTime<Utc>,
        grace: Duration,
    ) -> Result<Rotation, StoreError> {
        let (now, expires_at) = (millis(now), millis(expires_at));
        self.store.run("logins", || self.rotate_once(sid, to_column(generation), now, expires_at, grace)).await
    }

    async fn rotate_once(
        self,
        sid: &str,
        generation: i64,
        now: DateTime<Utc>,
        expires_at: DateTime<Utc>,
        grace: Duration,
    ) -> Result<Rotation, DbErr> {
        let rotated = login::Entity::update_many()
            .col_expr(login::Column::Generation, generation.saturating_add(1).into())
            .col_expr(login::Column::RotatedAt, now.into())
            .col_expr(login::Column::ExpiresAt, expires_at.into())
            .filter(login::Column::Sid.eq(sid))
            .filter(login::Column::Generation.eq(generation))
            .filter(alive_at(now))
            .exec(&self.store.writer)
            .await?
            .rows_affected;
        // The row is read through the writer connection, because it may have just been changed.
        let row = login::Entity::find_by_id(sid).filter(alive_at(now)).one(&self.store.writer).await?;
        let Some(row) = row else { return Ok(Rotation::Ended) };
        let (host, newest) = (HostId(row.user_id), from_column(row.generation));
        if rotated > 0 {
            return Ok(Rotation::Rotated { host, generation: from_column(generation + 1), rotated_at: now });
        }
        let in_grace = TimeDelta::from_std(grace).is_ok_and(|grace| now - row.rotated_at <= grace);
        if generation >= row.generation {
            // This generation was never issued.
            Ok(Rotation::Ended)
        } else if generation + 1 == row.generation && in_grace {
            Ok(Rotation::JustRotated { host, generation: newest, rotated_at: row.rotated_at })
        } else {
            self.end_once(sid, now).await?;
            Ok(Rotation::Theft { host })
        }
    }

    /// Revokes a login. Returns `false` if the login is unknown or already revoked.
    pub async fn end(self, sid: &str, now: DateTime<Utc>) -> Result<bool, StoreError> {
        self.store.run("logins", || self.end_once(sid, millis(now))).await
    }

    async fn end_once(self, sid: &str, now: DateTime<Utc>) -> Result<bool, DbErr> {
        let ended = login::Entity::update_many()
            .col_expr(login::Column::EndedAt, now.into())
            .filter(login::Column::Sid.eq(sid))
            .filter(login::Column::EndedAt.is_null())
            .exec(&self.store.writer)
            .await?;
        Ok(ended.rows_affected > 0)
    }

    /// Revokes all logins of a host except `keep`. Returns the ids of those that were active.
    pub async fn end_others(
        self,
        host: HostId,
        keep: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Vec<String>, StoreError> {
        self.store.run("logins", || self.end_others_once(host, keep, millis(now))).await
    }

    async fn end_others_once(self, host: HostId, keep: Option<&str>, now: DateTime<Utc>) -> Result<Vec<String>, DbErr> {
        let tx = self.store.begin().await?;
        let mut others = login::Entity::find()
            .select_only()
            .column(login::Column::Sid)
            .filter(login::Column::UserId.eq(host.0))
            .filter(alive_at(now))
            .order_by_asc(login::Column::Sid)
            .lock_exclusive();
        if let Some(keep) = keep {
            others = others.filter(login::Column::Sid.ne(keep));
        }
        let sids: Vec<String> = others.into_tuple().all(&tx).await?;
        if !sids.is_empty() {
            login::Entity::update_many()
                .col_expr(login::Column::EndedAt, now.into())
                .filter(login::Column::Sid.is_in(sids.iter().map(String::as_str)))
                .exec(&tx)
                .await?;
        }
        tx.commit().await?;
        Ok(sids)
    }

    /// Returns whether a login is neither revoked nor expired.
    pub async fn is_active(self, sid: &str, now: DateTime<Utc>) -> Result<bool, StoreError> {
        let found: Option<i32> = self
            .store
            .run("logins", || {
                login::Entity::find_by_id(sid)
                    .select_only()
                    .expr(Expr::val(1))
                    .filter(alive_at(millis(now)))
                    .into_tuple()
                    .one(&self.store.reader)
            })
            .await?;
        Ok(found.is_some())
    }

    /// Returns those of the given logins that are neither revoked nor expired.
    pub async fn active(self, of: &[&str], now: DateTime<Utc>) -> Result<Vec<String>, StoreError> {
        let found = self
            .store
            .run("logins", || {
                login::Entity::find()
                    .select_only()
                    .column(login::Column::Sid)
                    .filter(login::Column::Sid.is_in(of.iter().copied()))
                    .filter(alive_at(millis(now)))
                    .into_tuple()
                    .all(&self.store.reader)
            })
            .await?;
        Ok(found)
    }
}

fn alive_at(now: DateTime<Utc>) -> Condition {
    Condition::all().add(login::Column::EndedAt.is_null()).add(Expr::col(login::Column::ExpiresAt).gt(now))
}
