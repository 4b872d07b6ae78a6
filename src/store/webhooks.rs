//! Webhooks: the URL, events and secrets that a host has set.

use chrono::{DateTime, Utc};
use sea_orm::{ActiveModelTrait as _, ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::domain::{EventKinds, HostId};
use crate::store::entity::{webhook, webhook_event};
use crate::store::{StoreError, WebhookRepository, millis};

mod deliveries;
pub(super) mod events;
mod leases;

pub use deliveries::{DeliveryAttempt, EventState, RecordedEvent, WebhookEvent};
pub use leases::{DeliveryLease, DueWebhook};

/// Maximum number of events that one statement deletes when a webhook is deleted.
const DELETE_BATCH: u64 = 1_000;

/// Webhook of a host.
#[derive(Clone, PartialEq, Eq)]
pub struct HostWebhook {
    /// Owner of the webhook.
    pub host: HostId,
    /// URL that receives the events.
    pub url: String,
    /// Kinds of events that are sent.
    pub events: EventKinds,
    /// Whether the webhook is enabled. While it is disabled, events are neither recorded nor sent.
    pub is_enabled: bool,
    /// Time at which the webhook was disabled because its receiver returned 410.
    pub gone_at: Option<DateTime<Utc>>,
    /// Secret that signs requests.
    pub secret: String,
    /// Previous secret, and the time until which it also signs requests.
    pub old_secret: Option<(String, DateTime<Utc>)>,
    /// Creation time of the webhook.
    pub created_at: DateTime<Utc>,
    /// Time of the host's last change.
    pub updated_at: DateTime<Utc>,
}

impl std::fmt::Debug for HostWebhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("host", &self.host).finish_non_exhaustive()
    }
}

/// Settings of a webhook that a host may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookChange {
    /// URL that receives the events.
    pub url: String,
    /// Kinds of events that are sent.
    pub events: EventKinds,
    /// Whether events are recorded and sent.
    pub is_enabled: bool,
}

impl WebhookRepository<'_> {
    /// Returns the webhook of a host, or `None` if the host has none.
    pub async fn get(self, host: HostId) -> Result<Option<HostWebhook>, StoreError> {
        let row = self.store.run("webhooks", || webhook::Entity::find_by_id(host.0).one(&self.store.reader)).await?;
        Ok(row.map(to_webhook).transpose()?)
    }

    /// Creates or updates the webhook of a host. Returns the webhook, and `true` if it was created. A new webhook uses
    /// `secret`; an existing one keeps its secret.
    pub async fn set(
        self,
        host: HostId,
        change: &WebhookChange,
        secret: &str,
        now: DateTime<Utc>,
    ) -> Result<(HostWebhook, bool), StoreError> {
        let now = millis(now);
        let set = || self.store.run("webhooks", || self.set_once(host, change, secret, now));
        let (row, is_new) = match set().await {
            // A concurrent call inserted the row first.
            Err(StoreError::Conflict) => set().await?,
            done => done?,
        };
        self.forget_subscription(host);
        Ok((to_webhook(row)?, is_new))
    }

    /// Removes from the cache whether the webhook of a host subscribes to created rooms. After a node has changed a
    /// webhook, every other node must call this method. Otherwise the cached value remains valid for a few seconds.
    pub fn forget_subscription(self, host: HostId) {
        let forgotten = self.store.shared.wants_room_created.invalidate_entries_if(move |known, _| *known == host);
        if let Err(error) = forgotten {
            tracing::error!(%error, "failed to invalidate webhook cache");
        }
    }

    async fn set_once(
        self,
        host: HostId,
        change: &WebhookChange,
        secret: &str,
        now: DateTime<Utc>,
    ) -> Result<(webhook::Model, bool), DbErr> {
        use webhook::Column::{Events, FailedTurns, GoneAt, IsEnabled, NextTurnAt, UpdatedAt, Url};
        let tx = self.store.begin().await?;
        let known = webhook::Entity::find_by_id(host.0).lock_exclusive().one(&tx).await?;
        let row = webhook::Model {
            host_id: host.0,
            url: change.url.clone(),
            events: change.events.to_string(),
            is_enabled: change.is_enabled,
            gone_at: known.as_ref().and_then(|known| known.gone_at).filter(|_| !change.is_enabled),
            secret: secret.to_owned(),
            old_secret: None,
            old_secret_ends_at: None,
            // The new settings may fix the cause of failures, so delivery is attempted immediately.
            next_turn_at: now,
            failed_turns: 0,
            created_at: now,
            updated_at: now,
        };
        let (row, is_new) = match known {
            None => {
                webhook::Entity::insert(webhook::ActiveModel::from(row.clone()).reset_all())
                    .exec_without_returning(&tx)
                    .await?;
                (row, true)
            }
            Some(known) => {
                webhook::Entity::update_many()
                    .col_expr(Url, row.url.clone().into())
                    .col_expr(Events, row.events.clone().into())
                    .col_expr(IsEnabled, row.is_enabled.into())
                    .col_expr(GoneAt, row.gone_at.into())
                    .col_expr(NextTurnAt, row.next_turn_at.into())
                    .col_expr(FailedTurns, 0.into())
                    .col_expr(UpdatedAt, now.into())
                    .filter(webhook::Column::HostId.eq(host.0))
                    .exec(&tx)
                    .await?;
                // Events with failed attempts are also retried immediately. There are few of these, because a delivery
                // run ends with its first failure.
                webhook_event::Entity::update_many()
                    .col_expr(webhook_event::Column::DueAt, Some(now).into())
                    .filter(webhook_event::Column::HostId.eq(host.0))
                    .filter(webhook_event::Column::DueAt.gt(now))
                    .exec(&tx)
                    .await?;
                let webhook::Model { secret, old_secret, old_secret_ends_at, created_at, .. } = known;
                (webhook::Model { secret, old_secret, old_secret_ends_at, created_at, ..row }, false)
            }
        };
        tx.commit().await?;
        Ok((row, is_new))
    }

    /// Replaces the secret of a webhook. With `old_ends_at`, the previous secret also signs requests until that time.
    /// Returns `None` if the host has no webhook.
    pub async fn rotate_secret(
        self,
        host: HostId,
        secret: &str,
        old_ends_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<Option<HostWebhook>, StoreError> {
        let (old_ends_at, now) = (old_ends_at.map(millis), millis(now));
        let row = self.store.run("webhooks", || self.rotate_secret_once(host, secret, old_ends_at, now)).await?;
        Ok(row.map(to_webhook).transpose()?)
    }

    async fn rotate_secret_once(
        self,
        host: HostId,
        secret: &str,
        old_ends_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<Option<webhook::Model>, DbErr> {
        use webhook::Column::{OldSecret, OldSecretEndsAt, Secret, UpdatedAt};
        let tx = self.store.begin().await?;
        let Some(mut row) = webhook::Entity::find_by_id(host.0).lock_exclusive().one(&tx).await? else {
            return Ok(None);
        };
        let old = std::mem::replace(&mut row.secret, secret.to_owned());
        row.old_secret = old_ends_at.map(|_| old);
        row.old_secret_ends_at = old_ends_at;
        row.updated_at = now;
        webhook::Entity::update_many()
            .col_expr(Secret, row.secret.clone().into())
            .col_expr(OldSecret, row.old_secret.clone().into())
            .col_expr(OldSecretEndsAt, old_ends_at.into())
            .col_expr(UpdatedAt, now.into())
            .filter(webhook::Column::HostId.eq(host.0))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(Some(row))
    }

    /// Deletes the webhook of a host and all its events. Returns `false` if there was no webhook.
    pub async fn delete(self, host: HostId) -> Result<bool, StoreError> {
        // The webhook is deleted first, so that no further events are recorded.
        let deleted =
            self.store.run("webhooks", || webhook::Entity::delete_by_id(host.0).exec(&self.store.writer)).await?;
        while self.store.run("webhooks", || self.delete_events_once(host)).await? > 0 {}
        Ok(deleted.rows_affected > 0)
    }

    async fn delete_events_once(self, host: HostId) -> Result<u64, DbErr> {
        let ids: Vec<i64> = webhook_event::Entity::find()
            .select_only()
            .column(webhook_event::Column::Id)
            .filter(webhook_event::Column::HostId.eq(host.0))
            .order_by_asc(webhook_event::Column::Id)
            .limit(DELETE_BATCH)
            .into_tuple()
            .all(&self.store.writer)
            .await?;
        if ids.is_empty() {
            return Ok(0);
        }
        let gone = webhook_event::Entity::delete_many().filter(webhook_event::Column::Id.is_in(ids));
        Ok(gone.exec(&self.store.writer).await?.rows_affected)
    }

    /// Disables a webhook whose receiver returned 410, unless the host has changed the webhook since it was read.
    pub async fn disable(self, webhook: &HostWebhook, now: DateTime<Utc>) -> Result<(), StoreError> {
        let now = millis(now);
        self.store
            .run("webhooks", || {
                webhook::Entity::update_many()
                    .col_expr(webhook::Column::IsEnabled, false.into())
                    .col_expr(webhook::Column::GoneAt, now.into())
                    .filter(webhook::Column::HostId.eq(webhook.host.0))
                    .filter(webhook::Column::Url.eq(webhook.url.as_str()))
                    .filter(webhook::Column::UpdatedAt.eq(webhook.updated_at))
                    .exec(&self.store.writer)
            })
            .await?;
        Ok(())
    }
}

fn to_webhook(row: webhook::Model) -> Result<HostWebhook, DbErr> {
    Ok(HostWebhook {
        host: HostId(row.host_id),
        events: crate::store::parse_column("webhook.events", &row.events)?,
        url: row.url,
        is_enabled: row.is_enabled,
        gone_at: row.gone_at,
        secret: row.secret,
        old_secret: row.old_secret.zip(row.old_secret_ends_at),
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}
