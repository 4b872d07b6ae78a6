//! Webhooks: events of a host's rooms, sent to the host's own systems.
//!
//! Events are recorded in the same transaction as the change that causes them
//! ([`archive`](crate::store::MessageRepository::archive) and similar methods). A [`WebhookDispatcher`] on every node
//! sends them to the receivers. [`Webhooks`] sets and tests the webhook of a host and returns the results of
//! deliveries.
//!
//! **Guarantees:** while a webhook is enabled, each event is sent, always with the same id, until its receiver responds
//! with 2xx or three days have passed. Delivery is at least once, even if nodes crash. While nothing fails, the events
//! of a room are sent in order. The `seq` of a message is authoritative. A secret is returned only when it is created.
//! Nothing is sent to a private address that the operator has not allowed ([`address`]).

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use crate::domain::HostId;
use crate::domain::Rng;
use crate::domain::clock::Clock;
use crate::protocol::webhook::ping;
use crate::store::{DeliveryAttempt, Store, StoreError};

pub mod address;
mod client;
mod dispatcher;
mod signature;
mod url;

pub use self::url::UrlProblem;
pub use crate::store::{HostWebhook, RecordedEvent, WebhookChange};
pub use address::IsAllowed;
pub use dispatcher::WebhookDispatcher;

use client::WebhookClient;

/// Time for which a replaced secret also signs requests.
const OLD_SECRET_KEPT: TimeDelta = TimeDelta::days(1);

/// Maximum number of recent events that a host can list.
pub const RECENT: u64 = 50;

/// Reason why a webhook was not set.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SetError {
    /// The URL is not allowed.
    #[error(transparent)]
    Url(#[from] UrlProblem),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Signs and sends events. Clones share the connection pool.
#[derive(Clone)]
pub struct EventSender {
    client: WebhookClient,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for EventSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventSender").finish_non_exhaustive()
    }
}

impl EventSender {
    /// Creates a sender that connects to public addresses and to addresses that `is_allowed` accepts. Public addresses
    /// require TLS.
    ///
    /// # Errors
    /// Returns an error if the TLS client could not be created.
    pub fn new(is_allowed: Option<IsAllowed>, clock: Arc<dyn Clock>) -> Result<Self, rustls::Error> {
        Ok(Self { client: WebhookClient::new(is_allowed)?, clock })
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Makes one attempt to send an event. The attempt succeeded if its `problem` is `None`.
    async fn send(&self, webhook: &HostWebhook, id: &str, body: &str) -> DeliveryAttempt {
        let (began, now) = (Instant::now(), self.now());
        let old = webhook.old_secret.as_ref().filter(|(_, ends_at)| now < *ends_at);
        let secrets = std::iter::once(webhook.secret.as_str()).chain(old.map(|(secret, _)| secret.as_str()));
        let timestamp = now.timestamp();
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("user-agent", concat!("PinTalk/", env!("CARGO_PKG_VERSION")).to_owned()),
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", signature::signatures(secrets, id, timestamp, body)),
        ];
        let answered = self.client.post(&webhook.url, &headers, body).await;
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (status, problem) = match answered {
            Ok(status @ 200..=299) => (Some(status), None),
            Ok(status @ 300..=399) => (Some(status), Some(format!("answered {status}: redirects are not followed"))),
            Ok(status) => (Some(status), Some(format!("answered {status}"))),
            Err(problem) => (None, Some(problem.to_string())),
        };
        DeliveryAttempt { at: self.now(), millis, status, problem }
    }
}

/// Service that sets and tests webhooks and returns the results of deliveries. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Webhooks {
    store: Store,
    sender: EventSender,
    rng: Rng,
}

impl Webhooks {
    /// Creates the service for the webhooks in `store`.
    pub fn new(store: Store, sender: EventSender, rng: Rng) -> Self {
        Self { store, sender, rng }
    }

    /// Returns a host's webhook, or `None` if there is none.
    ///
    /// # Errors
    /// Returns the error of the store if the database fails.
    pub async fn show(&self, host: HostId) -> Result<Option<HostWebhook>, StoreError> {
        self.store.webhooks().get(host).await
    }

    /// Creates or updates a host's webhook. Returns the webhook, and `true` if it was created. A created webhook has a
    /// new secret.
    ///
    /// # Errors
    /// Returns a [`SetError`] if the URL is not allowed or the database fails.
    pub async fn set(&self, host: HostId, change: WebhookChange) -> Result<(HostWebhook, bool), SetError> {
        let url = self.sender.client.check_url(&change.url)?.to_string();
        let change = WebhookChange { url, ..change };
        let secret = signature::new_secret(&self.rng);
        Ok(self.store.webhooks().set(host, &change, &secret, self.sender.now()).await?)
    }

    /// Deletes a host's webhook and its events. Returns `false` if there was no webhook.
    ///
    /// # Errors
    /// Returns the error of the store if the database fails. The call may be repeated.
    pub async fn delete(&self, host: HostId) -> Result<bool, StoreError> {
        self.store.webhooks().delete(host).await
    }

    /// Replaces the secret of a webhook. The old secret also signs requests for a day. With `revoke_old`, the old
    /// secret is removed immediately. Returns `None` if there is no webhook.
    ///
    /// # Errors
    /// Returns the error of the store if the database fails.
    pub async fn rotate(&self, host: HostId, revoke_old: bool) -> Result<Option<HostWebhook>, StoreError> {
        let now = self.sender.now();
        let old_ends_at = (!revoke_old).then_some(now + OLD_SECRET_KEPT);
        self.store.webhooks().rotate_secret(host, &signature::new_secret(&self.rng), old_ends_at, now).await
    }

    /// Sends a test event immediately, even if the webhook is disabled. Returns `None` if there is no webhook.
    ///
    /// # Errors
    /// Returns the error of the store if the database fails.
    pub async fn test(&self, host: HostId) -> Result<Option<DeliveryAttempt>, StoreError> {
        let Some(webhook) = self.store.webhooks().get(host).await? else { return Ok(None) };
        let id = format!("evt_test_{:032x}", u128::from_be_bytes(self.rng.bytes()));
        let body = ping(&id, self.sender.now());
        Ok(Some(self.sender.send(&webhook, &id, &body).await))
    }

    /// Returns the newest events of a host that are still stored, at most [`RECENT`].
    ///
    /// # Errors
    /// Returns the error of the store if the database fails.
    pub async fn recent(&self, host: HostId) -> Result<Vec<RecordedEvent>, StoreError> {
        self.store.webhooks().recent_events(host, RECENT).await
    }
}
