//! Turns of telling a host's own systems.
//!
//! A turn belongs to one node at a time: it moves `next_turn_at` ahead of itself, and whoever finds that it lies in the past, because
//! the node has died or ended, takes the next. So one receiver is spoken to by one node, and what two nodes send all the same
//! after one of them stood still bears the same id.

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

/// A webhook that something waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueWebhook {
    /// Whose.
    pub host: HostId,
    /// Since when something is due.
    pub since: DateTime<Utc>,
    /// Before this, nobody sends.
    pub next_turn_at: DateTime<Utc>,
}

/// A turn of sending, which is this node's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// To whom.
    pub webhook: Webhook,
    /// Until when, if it is not prolonged.
    pub ends_at: DateTime<Utc>,
    /// How many turns before it brought nothing.
    pub failed_turns: u32,
}

impl Store {
    /// Webhooks for which something is due, also those whose turn it is not. Those that are off, and those of hosts who are
    /// deactivated, are not among them.
    pub async fn due_webhooks(&self, now: DateTime<Utc>) -> Result<Vec<DueWebhook>, StoreError> {
        #[derive(FromQueryResult)]
        struct Found {
            host_id: i64,
            next_turn_at: DateTime<Utc>,
            since: Option<DateTime<Utc>>,
        }
        use webhook_event::Column::{DueAt, HostId as OfHost};
        let column = |column| Expr::col((webhook_event::Entity, column));
        // The first entry of an index: however much waits, it is one look a webhook.
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
        let found = self.run(|| due.clone().into_model::<Found>().all(&self.reader)).await?;
        let now = millis(now);
        let due = found.into_iter().filter_map(|row| {
            let since = row.since.filter(|since| *since <= now || *since > now + LATEST_DUE)?;
            Some(DueWebhook { host: HostId(row.host_id), since, next_turn_at: row.next_turn_at })
        });
        Ok(due.collect())
    }

    /// Takes the turn of a webhook that was found due, until `ends_at`. `None`: another node was first, or it is off by now.
    pub async fn take_turn(&self, due: &DueWebhook, ends_at: DateTime<Utc>) -> Result<Option<Turn>, StoreError> {
        let ends_at = millis(ends_at);
        let row = self.run(|| self.take_turn_once(due, ends_at)).await?;
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

    /// Prolongs a turn. `None`: it is no longer this node's, or its host has changed the webhook.
    pub async fn prolong_turn(&self, turn: &Turn, ends_at: DateTime<Utc>) -> Result<Option<Turn>, StoreError> {
        let ends_at = millis(ends_at);
        let is_mine = self.move_turn(turn, ends_at, turn.failed_turns).await?;
        Ok(is_mine.then(|| Turn { ends_at, ..turn.clone() }))
    }

    /// Ends a turn; there is another from `next_turn_at` on.
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
            .run(|| {
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
