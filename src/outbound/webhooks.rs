//! Webhooks: events of a host's rooms, sent to the host's own systems.
//!
//! Events are recorded in the same transaction as the change that causes them
//! ([`archive`](crate::store::MessageRepository::archive) and similar methods). A [`WebhookDispatcher`] on every node
//! sends them to the receivers. The functions of this module set and test the webhook of a host and return the results.
//!
//! **Guarantees:** an event is sent at least once, even if nodes crash, until its receiver answers 2xx or three days
//! have passed, always with the same id. Within a room the order is kept while nothing fails; a message's `seq` is
//! authoritative. A secret is returned only when it is created. Nothing is sent to a private address that the operator
//! has not allowed ([`address`]).

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

/// How long requests are also signed with a replaced secret.
const OLD_SECRET_KEPT: TimeDelta = TimeDelta::days(1);

/// Maximum number of recent events that a host can list.
pub const RECENT: u64 = 50;

/// Why a webhook was not set.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SetError {
    /// The URL is not allowed.
    #[error(transparent)]
    Url(#[from] UrlProblem),
    /// SQL failed.
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
    /// Creates a sender. The sender connects to public addresses and to those that `is_allowed` accepts. Only the
    /// latter are allowed without TLS.
    ///
    /// # Errors
    /// Returns an error if the TLS client could not be created.
    pub fn new(is_allowed: Option<IsAllowed>, clock: Arc<dyn Clock>) -> Result<Self, rustls::Error> {
        Ok(Self { client: WebhookClient::new(is_allowed)?, clock })
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Sends an event once. The attempt succeeded if it has no `problem`.
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

/// Settings and results of webhooks. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Webhooks {
    store: Store,
    sender: EventSender,
    rng: Rng,
}

impl Webhooks {
    /// Creates the service over `store`.
    pub fn new(store: Store, sender: EventSender, rng: Rng) -> Self {
        Self { store, sender, rng }
    }

    /// Returns a host's webhook, if there is one.
    ///
    /// # Errors
    /// Returns the error of the store if SQL fails.
    pub async fn show(&self, host: HostId) -> Result<Option<HostWebhook>, StoreError> {
        self.store.webhooks().get(host).await
    }

    /// Creates or updates a host's webhook. Returns it, and `true` if it was created; its secret is then new.
    ///
    /// # Errors
    /// Returns a [`SetError`] if the URL is not allowed or SQL fails.
    pub async fn set(&self, host: HostId, change: WebhookChange) -> Result<(HostWebhook, bool), SetError> {
        let url = self.sender.client.check_url(&change.url)?.to_string();
        let change = WebhookChange { url, ..change };
        let secret = signature::new_secret(&self.rng);
        Ok(self.store.webhooks().set(host, &change, &secret, self.sender.now()).await?)
    }

    /// Deletes a host's webhook and its events. Returns `false` if there was none.
    ///
    /// # Errors
    /// Returns the error of the store if SQL fails. The call may be repeated.
    pub async fn delete(&self, host: HostId) -> Result<bool, StoreError> {
        self.store.webhooks().delete(host).await
    }

    /// Replaces the secret of a webhook. The old secret also signs requests for a day. With `revoke_old`, it is removed
    /// immediately. Returns `None` if there is no webhook.
    ///
    /// # Errors
    /// Returns the error of the store if SQL fails.
    pub async fn rotate(&self, host: HostId, revoke_old: bool) -> Result<Option<HostWebhook>, StoreError> {
        let now = self.sender.now();
        let old_ends_at = (!revoke_old).then_some(now + OLD_SECRET_KEPT);
        self.store.webhooks().rotate_secret(host, &signature::new_secret(&self.rng), old_ends_at, now).await
    }

    /// Sends a test event at once, even if the webhook is disabled. Returns `None` if there is no webhook.
    ///
    /// # Errors
    /// Returns the error of the store if SQL fails.
    pub async fn test(&self, host: HostId) -> Result<Option<DeliveryAttempt>, StoreError> {
        let Some(webhook) = self.store.webhooks().get(host).await? else { return Ok(None) };
        let id = format!("evt_test_{:032x}", u128::from_be_bytes(self.rng.bytes()));
        let body = ping(&id, self.sender.now());
        Ok(Some(self.sender.send(&webhook, &id, &body).await))
    }

    /// Returns the newest events of a host that are still stored, at most [`RECENT`].
    ///
    /// # Errors
    /// Returns the error of the store if SQL fails.
    pub async fn recent(&self, host: HostId) -> Result<Vec<RecordedEvent>, StoreError> {
        self.store.webhooks().recent_events(host, RECENT).await
    }
}
