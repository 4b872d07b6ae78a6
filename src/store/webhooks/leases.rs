//! Delivery leases of webhooks.
//!
//! A lease is the time-limited right of one node to send the events of one webhook. The node keeps the column
//! `next_turn_at` in the future while it sends. Once that time has passed, because the node crashed or released the
//! lease, any node may acquire it. Therefore only one node at a time sends to a receiver. If a stalled node sends an
//! event again, the event has the same id.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, Order, Query, SubQueryStatement};
use sea_orm::{
    ColumnTrait, DbErr, EntityTrait, ExprTrait as _, FromQueryResult, JoinType, QueryFilter, QuerySelect,
    RelationTrait as _,
};

use super::deliveries::LATEST_DUE;
use super::{HostWebhook, to_webhook};
use crate::domain::HostId;
use crate::store::entity::{user, webhook, webhook_event};
use crate::store::{StoreError, WebhookRepository, millis, to_column};

/// A webhook with a due event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueWebhook {
    /// Owner of the webhook.
    pub host: HostId,
    /// Due time of the oldest waiting event of the webhook.
    pub since: DateTime<Utc>,
    /// Time before which no node may acquire the lease.
    pub next_turn_at: DateTime<Utc>,
}

/// A delivery lease that this node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryLease {
    /// Webhook whose events are sent.
    pub webhook: HostWebhook,
    /// Expiry time, unless the lease is renewed.
    pub ends_at: DateTime<Utc>,
    /// Number of consecutive earlier leases without a delivery.
    pub failed_turns: u32,
}

impl WebhookRepository<'_> {
    /// Returns webhooks with a due event, including those whose lease cannot be acquired yet. Excludes disabled
    /// webhooks and those of deactivated hosts.
    pub async fn due(self, now: DateTime<Utc>) -> Result<Vec<DueWebhook>, StoreError> {
        #[derive(FromQueryResult)]
        struct DueRow {
            host_id: i64,
            next_turn_at: DateTime<Utc>,
            since: Option<DateTime<Utc>>,
        }
        use webhook_event::Column::{DueAt, HostId as OfHost};
        let column = |column| Expr::col((webhook_event::Entity, column));
        // This subquery reads the first entry of an index. It needs one lookup per webhook, regardless of the number of
        // waiting events.
        let first = Query::select()
            .expr(column(DueAt))
            .from(webhook_event::Entity)
            .and_where(column(OfHost).equals((webhook::Entity, webhook::Column::HostId)))
            .and_where(column(DueAt).is_not_null())
            .order_by((webhook_event::Entity, DueAt), Order::Asc)
            .limit(1)
            .to_owned();
        let due = webhook::Entity::find()
            .select_only()
            .columns([webhook::Column::HostId, webhook::Column::NextTurnAt])
            .column_as(Expr::from(SubQueryStatement::from(first)), "since")
            .join(JoinType::InnerJoin, webhook::Relation::User.def())
            .filter(webhook::Column::IsEnabled.eq(true))
            .filter(user::Column::IsDeleted.eq(false));
        let found = self.store.run("turns", || due.clone().into_model::<DueRow>().all(&self.store.reader)).await?;
        let now = millis(now);
        let due = found.into_iter().filter_map(|row| {
            let since = row.since.filter(|since| *since <= now || *since > now + LATEST_DUE)?;
            Some(DueWebhook { host: HostId(row.host_id), since, next_turn_at: row.next_turn_at })
        });
        Ok(due.collect())
    }

    /// Acquires the lease of a webhook until `ends_at`. Returns `None` if another node was first, or the webhook has
    /// been changed, disabled or deleted.
    pub async fn acquire_lease(
        self,
        due: &DueWebhook,
        ends_at: DateTime<Utc>,
    ) -> Result<Option<DeliveryLease>, StoreError> {
        let ends_at = millis(ends_at);
        let row = self.store.run("turns", || self.acquire_lease_once(due, ends_at)).await?;
        let Some(row) = row else { return Ok(None) };
        let failed_turns = u32::try_from(row.failed_turns).unwrap_or(u32::MAX);
        Ok(Some(DeliveryLease { webhook: to_webhook(row)?, ends_at, failed_turns }))
    }

    async fn acquire_lease_once(
        self,
        due: &DueWebhook,
        ends_at: DateTime<Utc>,
    ) -> Result<Option<webhook::Model>, DbErr> {
        let taken = webhook::Entity::update_many()
            .col_expr(webhook::Column::NextTurnAt, ends_at.into())
            .filter(webhook::Column::HostId.eq(due.host.0))
            .filter(webhook::Column::NextTurnAt.eq(due.next_turn_at))
            .filter(webhook::Column::IsEnabled.eq(true))
            .exec(&self.store.writer)
            .await?;
        if taken.rows_affected == 0 {
            return Ok(None);
        }
        webhook::Entity::find_by_id(due.host.0).one(&self.store.writer).await
    }

    /// Renews a lease. Returns `None` if another node holds it or the host has changed the webhook.
    pub async fn renew_lease(
        self,
        lease: &DeliveryLease,
        ends_at: DateTime<Utc>,
    ) -> Result<Option<DeliveryLease>, StoreError> {
        let ends_at = millis(ends_at);
        let is_mine = self.set_expiry(lease, ends_at, lease.failed_turns).await?;
        Ok(is_mine.then(|| DeliveryLease { ends_at, ..lease.clone() }))
    }

    /// Releases a lease. Any node can acquire the lease again from `next_turn_at` on.
    pub async fn release_lease(
        self,
        lease: &DeliveryLease,
        next_turn_at: DateTime<Utc>,
        failed_turns: u32,
    ) -> Result<(), StoreError> {
        self.set_expiry(lease, millis(next_turn_at), failed_turns).await?;
        Ok(())
    }

    async fn set_expiry(self, lease: &DeliveryLease, to: DateTime<Utc>, failed_turns: u32) -> Result<bool, StoreError> {
        let moved = self
            .store
            .run("turns", || {
                webhook::Entity::update_many()
                    .col_expr(webhook::Column::NextTurnAt, to.into())
                    .col_expr(webhook::Column::FailedTurns, to_column(failed_turns.into()).into())
                    .filter(webhook::Column::HostId.eq(lease.webhook.host.0))
                    .filter(webhook::Column::NextTurnAt.eq(lease.ends_at))
                    .filter(webhook::Column::UpdatedAt.eq(lease.webhook.updated_at))
                    .exec(&self.store.writer)
            })
            .await?;
        Ok(moved.rows_affected > 0)
    }
}
