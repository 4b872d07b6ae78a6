//! Webhooks: a host's own systems are told what happens in his rooms.
//!
//! What is to be told is noted where it happens, in the same transaction ([`Store::archive`] and its neighbours); a [`Courier`] on
//! every node brings it to the receiver. Here a host sets his webhook, tests it, and sees what became of the events.
//!
//! **Promises:** an event is sent at least once, in spite of nodes that die, until its receiver answers 2xx or three days have
//! passed, always under the same id. Order holds within a room as long as nothing fails; a message's `seq` is the order. A secret is
//! shown when it is made, and never again. Nothing is sent to a private address that the operator has not allowed ([`address`]).

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use crate::clock::{Chance, Clock};
use crate::domain::HostId;
use crate::protocol::webhook::ping;
use crate::store::{Attempt, RecordedEvent, Store, StoreError, Webhook, WebhookChange};

pub mod address;
mod courier;
mod signature;
#[cfg(test)]
pub(crate) mod testing;
mod wire;

pub use address::IsAllowed;
pub use courier::Courier;
pub use wire::UrlProblem;

use wire::Wire;

/// How long a secret that was replaced goes on beside the new one.
const OLD_SECRET_KEPT: TimeDelta = TimeDelta::days(1);

/// How many of the newest events a host is shown.
pub const RECENT: u64 = 50;

/// Why a webhook was not set.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SetError {
    /// Nothing can be sent to that URL.
    #[error(transparent)]
    Url(#[from] UrlProblem),
    /// SQL.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Signs and sends. Clones share their connections.
#[derive(Clone)]
pub struct Sender {
    wire: Wire,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Sender {
    /// Beside the internet it sends to addresses that are allowed, and to these also without TLS.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(is_allowed: Option<IsAllowed>, clock: Arc<dyn Clock>) -> Result<Self, rustls::Error> {
        Ok(Self { wire: Wire::new(is_allowed)?, clock })
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Sends an event. It has arrived if there is no problem.
    async fn send(&self, webhook: &Webhook, id: &str, body: &str) -> Attempt {
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
        let answered = self.wire.post(&webhook.url, &headers, body).await;
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (status, problem) = match answered {
            Ok(status @ 200..=299) => (Some(status), None),
            Ok(status @ 300..=399) => (Some(status), Some(format!("answered {status}: redirects are not followed"))),
            Ok(status) => (Some(status), Some(format!("answered {status}"))),
            Err(problem) => (None, Some(problem.to_string())),
        };
        Attempt { at: self.now(), millis, status, problem }
    }
}

/// The service.
#[derive(Clone, Debug)]
pub struct Webhooks {
    store: Store,
    sender: Sender,
    chance: Chance,
}

impl Webhooks {
    /// Over a store.
    pub fn new(store: Store, sender: Sender, chance: Chance) -> Self {
        Self { store, sender, chance }
    }

    /// A host's webhook.
    ///
    /// # Errors
    /// As of the store.
    pub async fn show(&self, host: HostId) -> Result<Option<Webhook>, StoreError> {
        self.store.webhook(host).await
    }

    /// Sets a host's webhook. `true`: there was none, so its secret is new.
    ///
    /// # Errors
    /// [`SetError`].
    pub async fn set(&self, host: HostId, change: WebhookChange) -> Result<(Webhook, bool), SetError> {
        let url = self.sender.wire.judge(&change.url)?.to_string();
        let change = WebhookChange { url, ..change };
        let secret = signature::new_secret(&self.chance);
        Ok(self.store.set_webhook(host, &change, &secret, self.sender.now()).await?)
    }

    /// Takes a host's webhook away, and forgets what was to be told. `false`: there was none.
    ///
    /// # Errors
    /// As of the store; it may be asked again.
    pub async fn delete(&self, host: HostId) -> Result<bool, StoreError> {
        self.store.delete_webhook(host).await
    }

    /// Gives a webhook another secret. The one until now goes on beside it for a day, or ends at once. `None`: there is no webhook.
    ///
    /// # Errors
    /// As of the store.
    pub async fn rotate(&self, host: HostId, revoke_old: bool) -> Result<Option<Webhook>, StoreError> {
        let now = self.sender.now();
        let old_ends_at = (!revoke_old).then_some(now + OLD_SECRET_KEPT);
        self.store.rotate_webhook_secret(host, &signature::new_secret(&self.chance), old_ends_at, now).await
    }

    /// Sends an event now that only tests whether there is somebody, also while the webhook is off. `None`: there is no webhook.
    ///
    /// # Errors
    /// As of the store.
    pub async fn test(&self, host: HostId) -> Result<Option<Attempt>, StoreError> {
        let Some(webhook) = self.store.webhook(host).await? else { return Ok(None) };
        let id = format!("evt_test_{:032x}", u128::from_be_bytes(self.chance.bytes()));
        let body = ping(&id, self.sender.now());
        Ok(Some(self.sender.send(&webhook, &id, &body).await))
    }

    /// The newest events of a host, as far as they are remembered.
    ///
    /// # Errors
    /// As of the store.
    pub async fn recent(&self, host: HostId) -> Result<Vec<RecordedEvent>, StoreError> {
        self.store.recent_webhook_events(host, RECENT).await
    }
}
