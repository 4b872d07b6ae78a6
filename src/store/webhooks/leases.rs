//! Delivery turns of webhooks.
//!
//! A turn is the time-limited right of one node to send the events of one webhook. The node keeps `next_turn_at` in the
//! future while it sends. If that time has passed, because the node crashed or ended its turn, any node may take the
//! next turn. One receiver is therefore served by one node. If a stalled node sends an event again, it has the same
//! event id.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, Order, Query, SubQueryStatement};
use sea_orm::{
    ColumnTrait, DbErr, EntityTrait, ExprTrait as _, FromQueryResult, JoinType, QueryFilter, QuerySelect,
    RelationTrait as _,
};

use super::super::entity::{user, webhook, webhook_event};
use super::super::{Store, StoreError, millis, to_column};
use super::deliveries::LATEST_DUE;
use super::{Webhook, to_webhook};
use crate::domain::HostId;

/// A webhook with a due event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueWebhook {
    /// Owner of the webhook.
    pub host: HostId,
    /// Due time of its oldest waiting event.
    pub since: DateTime<Utc>,
    /// Time before which no node may take a turn.
    pub next_turn_at: DateTime<Utc>,
}

/// A turn that this node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Webhook whose events are sent.
    pub webhook: Webhook,
    /// Time at which the turn ends, unless it is prolonged.
    pub ends_at: DateTime<Utc>,
    /// Number of consecutive earlier turns without a delivery.
    pub failed_turns: u32,
}

impl Store {
    /// Returns webhooks with a due event, including those whose next turn is later. Excludes disabled webhooks and
    /// those of deactivated hosts.
    pub async fn due_webhooks(&self, now: DateTime<Utc>) -> Result<Vec<DueWebhook>, StoreError> {
        #[derive(FromQueryResult)]
        struct Found {
            host_id: i64,
            next_turn_at: DateTime<Utc>,
            since: Option<DateTime<Utc>>,
        }
        use webhook_event::Column::{DueAt, HostId as OfHost};
        let column = |column| Expr::col((webhook_event::Entity, column));
        // Reads the first entry of an index: one lookup per webhook, regardless of the number of waiting events.
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
        let found = self.run("turns", || due.clone().into_model::<Found>().all(&self.reader)).await?;
        let now = millis(now);
        let due = found.into_iter().filter_map(|row| {
            let since = row.since.filter(|since| *since <= now || *since > now + LATEST_DUE)?;
            Some(DueWebhook { host: HostId(row.host_id), since, next_turn_at: row.next_turn_at })
        });
        Ok(due.collect())
    }

    /// Takes a turn until `ends_at`. Returns `None` if another node was first or the webhook was disabled.
    pub async fn take_turn(&self, due: &DueWebhook, ends_at: DateTime<Utc>) -> Result<Option<Turn>, StoreError> {
        let ends_at = millis(ends_at);
        let row = self.run("turns", || self.take_turn_once(due, ends_at)).await?;
        let Some(row) = row else { return Ok(None) };
        let failed_turns = u32::try_from(row.failed_turns).unwrap_or(u32::MAX);
        Ok(Some(Turn { webhook: to_webhook(row)?, ends_at, failed_turns }))
    }

    async fn take_turn_once(&self, due: &DueWebhook, ends_at: DateTime<Utc>) -> Result<Option<webhook::Model>, DbErr> {
        let taken = webhook::Entity::update_many()
            .col_expr(webhook::Column::NextTurnAt, ends_at.into())
            .filter(webhook::Column::HostId.eq(due.host.0))
            .filter(webhook::Column::NextTurnAt.eq(due.next_turn_at))
            .filter(webhook::Column::IsEnabled.eq(true))
            .exec(&self.writer)
            .await?;
        if taken.rows_affected == 0 {
            return Ok(None);
        }
        webhook::Entity::find_by_id(due.host.0).one(&self.writer).await
    }

    /// Prolongs a turn. Returns `None` if another node holds the turn or the host has changed the webhook.
    pub async fn prolong_turn(&self, turn: &Turn, ends_at: DateTime<Utc>) -> Result<Option<Turn>, StoreError> {
        let ends_at = millis(ends_at);
        let is_mine = self.move_turn(turn, ends_at, turn.failed_turns).await?;
        Ok(is_mine.then(|| Turn { ends_at, ..turn.clone() }))
    }

    /// Ends a turn. The next one may be taken from `next_turn_at` on.
    pub async fn end_turn(
        &self,
        turn: &Turn,
        next_turn_at: DateTime<Utc>,
        failed_turns: u32,
    ) -> Result<(), StoreError> {
        self.move_turn(turn, millis(next_turn_at), failed_turns).await?;
        Ok(())
    }

    async fn move_turn(&self, turn: &Turn, to: DateTime<Utc>, failed_turns: u32) -> Result<bool, StoreError> {
        let moved = self
            .run("turns", || {
                webhook::Entity::update_many()
                    .col_expr(webhook::Column::NextTurnAt, to.into())
                    .col_expr(webhook::Column::FailedTurns, to_column(failed_turns.into()).into())
                    .filter(webhook::Column::HostId.eq(turn.webhook.host.0))
                    .filter(webhook::Column::NextTurnAt.eq(turn.ends_at))
                    .filter(webhook::Column::UpdatedAt.eq(turn.webhook.updated_at))
                    .exec(&self.writer)
            })
            .await?;
        Ok(moved.rows_affected > 0)
    }
}
