//! Activation state of accounts, and lists of accounts for operators.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DbErr, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::domain::{Host, HostId, HostUuid};
use crate::store::entity::{user, user_config};
use crate::store::hosts::to_host;
use crate::store::{HostRepository, StoreError, millis};

/// Initiator of a deactivation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeactivatedBy {
    /// The owner. A temporary password sent by e-mail reactivates the account.
    Host,
    /// An operator. Only an operator can reactivate the account.
    Operator,
}

impl HostRepository<'_> {
    /// Returns at most `limit` hosts with ids above `after`, by ascending id. Includes deactivated hosts, with the
    /// initiator of their deactivation.
    pub async fn after(self, after: HostId, limit: u64) -> Result<Vec<(Host, Option<DeactivatedBy>)>, StoreError> {
        let rows = self
            .store
            .run("standing", || {
                user::Entity::find()
                    .find_also_related(user_config::Entity)
                    .filter(user::Column::Id.gt(after.0))
                    .order_by_asc(user::Column::Id)
                    .limit(limit)
                    .all(&self.store.reader)
            })
            .await?;
        let hosts = rows.into_iter().map(|(row, config)| {
            let by = if row.disabled_at.is_some() { DeactivatedBy::Operator } else { DeactivatedBy::Host };
            let by = row.is_deleted.then_some(by);
            Ok((to_host(row, config)?, by))
        });
        let hosts = hosts.collect::<Result<_, DbErr>>()?;
        Ok(hosts)
    }

    /// Returns those of the given hosts that are deactivated.
    pub async fn deactivated(self, of: &[HostId]) -> Result<Vec<HostId>, StoreError> {
        let found: Vec<i64> = self
            .store
            .run("standing", || {
                user::Entity::find()
                    .select_only()
                    .column(user::Column::Id)
                    .filter(user::Column::Id.is_in(of.iter().map(|host| host.0)))
                    .filter(user::Column::IsDeleted.eq(true))
                    .into_tuple()
                    .all(&self.store.reader)
            })
            .await?;
        Ok(found.into_iter().map(HostId).collect())
    }

    /// Returns those of the given hosts that have disabled their online status.
    pub async fn hidden(self, of: &[HostUuid]) -> Result<Vec<HostUuid>, StoreError> {
        let found: Vec<String> = self
            .store
            .run("standing", || {
                user::Entity::find()
                    .select_only()
                    .column(user::Column::Uuid)
                    .inner_join(user_config::Entity)
                    .filter(user::Column::Uuid.is_in(of.iter().map(HostUuid::as_str)))
                    .filter(user_config::Column::UseOnlineStatus.eq(false))
                    .into_tuple()
                    .all(&self.store.reader)
            })
            .await?;
        Ok(found.iter().filter_map(|uuid| uuid.parse().ok()).collect())
    }

    /// Deactivates a host and deletes its temporary password. Has no effect on a deactivated host, except that an
    /// operator can disable an account that its owner has deactivated.
    pub async fn deactivate(self, host: HostId, by: DeactivatedBy, now: DateTime<Utc>) -> Result<(), StoreError> {
        let now = millis(now);
        let stands_otherwise = match by {
            DeactivatedBy::Host => user::Column::IsDeleted.eq(false),
            DeactivatedBy::Operator => user::Column::DisabledAt.is_null(),
        };
        let disabled_at = match by {
            DeactivatedBy::Host => Expr::col(user::Column::DisabledAt),
            DeactivatedBy::Operator => Expr::value(now),
        };
        self.store
            .run("standing", || {
                user::Entity::update_many()
                    .col_expr(user::Column::IsDeleted, true.into())
                    .col_expr(user::Column::DeletedAt, Expr::col(user::Column::DeletedAt).if_null(now))
                    .col_expr(user::Column::DisabledAt, disabled_at.clone())
                    .col_expr(user::Column::UpdatedAt, now.into())
                    .col_expr(user::Column::TemporaryHash, Expr::val(None::<String>))
                    .col_expr(user::Column::TemporaryUntil, Expr::val(None::<DateTime<Utc>>))
                    .filter(user::Column::Id.eq(host.0))
                    .filter(stands_otherwise.clone())
                    .exec(&self.store.writer)
            })
            .await?;
        Ok(())
    }

    /// Activates a host, regardless of who deactivated it. Has no effect on an active host.
    pub async fn activate(self, host: HostId, now: DateTime<Utc>) -> Result<(), StoreError> {
        let now = millis(now);
        self.store
            .run("standing", || {
                user::Entity::update_many()
                    .col_expr(user::Column::IsDeleted, false.into())
                    .col_expr(user::Column::DeletedAt, Expr::val(None::<DateTime<Utc>>))
                    .col_expr(user::Column::DisabledAt, Expr::val(None::<DateTime<Utc>>))
                    .col_expr(user::Column::UpdatedAt, now.into())
                    .filter(user::Column::Id.eq(host.0))
                    .filter(user::Column::IsDeleted.eq(true))
                    .exec(&self.store.writer)
            })
            .await?;
        Ok(())
    }
}
