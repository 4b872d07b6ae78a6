//! How an account stands: whether it is active, and which password opens it. And all accounts, for whoever runs the server.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::entity::{user, user_config};
use super::hosts::to_host;
use super::{Store, StoreError, millis};
use crate::domain::{Host, HostId};

impl Store {
    /// Hosts in the order of their ids, deactivated ones, too: at most `limit` behind `after`.
    pub async fn hosts_after(&self, after: HostId, limit: u64) -> Result<Vec<Host>, StoreError> {
        let rows = self
            .run(|| {
                user::Entity::find()
                    .find_also_related(user_config::Entity)
                    .filter(user::Column::Id.gt(after.0))
                    .order_by_asc(user::Column::Id)
                    .limit(limit)
                    .all(&self.reader)
            })
            .await?;
        let hosts = rows.into_iter().map(|(row, config)| to_host(row, config)).collect::<Result<_, DbErr>>()?;
        Ok(hosts)
    }

    /// Deactivates a host as of `deleted_at`, or activates him; who stands so already is left alone. A password that was mailed
    /// opens nothing any more.
    pub async fn set_deleted(
        &self,
        host: HostId,
        deleted_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let (is_deleted, deleted_at, now) = (deleted_at.is_some(), deleted_at.map(millis), millis(now));
        self.run(|| {
            user::Entity::update_many()
                .col_expr(user::Column::IsDeleted, is_deleted.into())
                .col_expr(user::Column::DeletedAt, Expr::value(deleted_at))
                .col_expr(user::Column::UpdatedAt, now.into())
                .col_expr(user::Column::TemporaryHash, Expr::val(None::<String>))
                .col_expr(user::Column::TemporaryUntil, Expr::val(None::<DateTime<Utc>>))
                .filter(user::Column::Id.eq(host.0))
                .filter(user::Column::IsDeleted.ne(is_deleted))
                .exec(&self.writer)
        })
        .await?;
        Ok(())
    }

    /// Sets a host's password hash. A password that was mailed opens nothing any more.
    pub async fn set_password_hash(&self, host: HostId, hash: &str) -> Result<(), StoreError> {
        self.run(|| {
            user::Entity::update_many()
                .col_expr(user::Column::PasswordHash, hash.into())
                .col_expr(user::Column::TemporaryHash, Expr::val(None::<String>))
                .col_expr(user::Column::TemporaryUntil, Expr::val(None::<DateTime<Utc>>))
                .filter(user::Column::Id.eq(host.0))
                .exec(&self.writer)
        })
        .await?;
        Ok(())
    }

    /// Replaces a host's password hash by another of the same password; `false` if it is no longer the one that was checked.
    pub async fn replace_password_hash(&self, host: HostId, checked: &str, hash: &str) -> Result<bool, StoreError> {
        let replaced = self
            .run(|| {
                user::Entity::update_many()
                    .col_expr(user::Column::PasswordHash, hash.into())
                    .filter(user::Column::Id.eq(host.0))
                    .filter(user::Column::PasswordHash.eq(checked))
                    .exec(&self.writer)
            })
            .await?;
        Ok(replaced.rows_affected > 0)
    }
}
