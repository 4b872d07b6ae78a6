//! Rate limits per client, host and account (DESIGN "Limits").
//!
//! Handlers check a limit before they do any work. Every attempt is counted, whether it succeeds or not. Login failures
//! are counted separately ([`LoginAttempt`]). Handshakes, calls with unknown keys and reads of images are counted per
//! node, and everything else across nodes. While the shared throttle is unavailable, each node counts locally.
//!
//! **Invariant:** every configured limit is always applied, and no check waits longer than the timeout of a call to
//! Redis.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use crate::accounts::metrics::{LimitMetrics, LimitedCall};
use crate::backend::throttle::{Buckets, Kind, Quota, Throttle, Verdict, Who};
use crate::domain::clock::Clock;
use crate::domain::{HostId, Side};
use crate::store::mailbox_key;

mod budget;
mod logins;
#[cfg(test)]
mod tests;

pub use budget::{Budgets, ByteQuota, HostBudget};
pub use logins::{LoginAttempt, Trial};

/// Time for which a node counts locally before it retries the shared throttle, in µs. Each retry may delay one caller
/// by the timeout of a call to Redis.
const FALLBACK: i64 = 2_000_000;

/// Rates of all limits; `None` means unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// WebSocket handshakes per address and node.
    pub handshakes: Option<Quota>,
    /// Rooms created per address.
    pub rooms: Option<Quota>,
    /// Rooms that calls without `Origin` create per host, over all addresses.
    pub rooms_per_host: Option<Quota>,
    /// Logins per address.
    pub logins_per_address: Option<Quota>,
    /// Failed logins per account and address, per minute.
    pub login_failures_per_pair: Option<Quota>,
    /// Failed logins per account and address, per hour. It is lower than the limit per account, so that one address
    /// cannot use up the limit of the account.
    pub login_failures_per_pair_hour: Option<Quota>,
    /// Failed logins per account over all addresses, per hour.
    pub login_failures_per_account: Option<Quota>,
    /// E-mails requested per address.
    pub mails: Option<Quota>,
    /// E-mails per mailbox, requested from all addresses together.
    pub mails_per_mailbox: Option<Quota>,
    /// Webhook tests per host.
    pub webhook_tests: Option<Quota>,
    /// Calls with unknown keys per address and node.
    pub unknown_keys: Option<Quota>,
    /// Sign-up steps that send no e-mail, per address.
    pub sign_ups: Option<Quota>,
    /// Profile images read per address and node.
    pub images: Option<Quota>,
    /// Bytes of messages per day in the rooms of a host.
    pub host_bytes: Option<ByteQuota>,
}

/// Error of a call above a limit. After `retry_after`, the same call passes unless other calls have used up the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rate limited: retry after {retry_after:?}")]
pub struct TooMany {
    /// Time until the call passes.
    pub retry_after: Duration,
}

impl TooMany {
    /// Returns the value of `Retry-After`: the time rounded up to whole seconds, at least 1.
    pub fn seconds(&self) -> u64 {
        let started = u64::from(self.retry_after.subsec_nanos() > 0);
        (self.retry_after.as_secs() + started).max(1)
    }

    /// Returns this error with a `retry_after` of at least `other`.
    fn or_later(self, other: Duration) -> Self {
        Self { retry_after: self.retry_after.max(other) }
    }
}

/// Rate limits of one node.
pub struct Limits {
    quotas: Quotas,
    shared: Arc<dyn Throttle>,
    own: Buckets,
    clock: Arc<dyn Clock>,
    /// Time at which this node retries the shared throttle, in µs since 1970; 0 while it uses the shared throttle.
    fallback_until: AtomicI64,
    metrics: LimitMetrics,
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits").field("quotas", &self.quotas).finish_non_exhaustive()
    }
}

impl Limits {
    /// Creates the limits. `shared` counts across nodes.
    pub fn new(quotas: Quotas, shared: Arc<dyn Throttle>, clock: Arc<dyn Clock>) -> Self {
        Self {
            quotas,
            shared,
            own: Buckets::default(),
            clock,
            fallback_until: AtomicI64::new(0),
            metrics: LimitMetrics::default(),
        }
    }

    /// Counts a WebSocket handshake.
    ///
    /// # Errors
    /// Returns [`TooMany`] above the limit.
    pub fn handshake(&self, address: IpAddr) -> Result<(), TooMany> {
        self.count_here(Kind::Handshake, address, self.quotas.handshakes)
    }

    /// Counts the creation of a room from an address.
    ///
    /// # Errors
    /// Returns [`TooMany`] above the limit.
    pub async fn room(&self, address: IpAddr) -> Result<(), TooMany> {
        self.count(Kind::Room, Who::address(address), self.quotas.rooms).await.map(|_| ())
    }

    /// Counts the creation of a room for a host by a call without `Origin`. The limit of the address is checked first,
    /// so that one address never uses up the host's limit.
    ///
    /// # Errors
    /// Returns [`TooMany`] above either limit, with the time after which both limits permit the call.
    pub async fn room_of(&self, host: HostId, address: IpAddr) -> Result<(), TooMany> {
        let next_in = self.count(Kind::Room, Who::address(address), self.quotas.rooms).await?;
        let counted = self.count(Kind::Room, Who::host(host), self.quotas.rooms_per_host).await;
        counted.map(|_| ()).map_err(|above| above.or_later(next_in))
    }

    /// Counts, on this node only, a call whose keys have not been checked yet. [`Limits::known_keys`] refunds the call.
    ///
    /// # Errors
    /// Returns [`TooMany`] above the limit.
    pub fn unknown_keys(&self, address: IpAddr) -> Result<(), TooMany> {
        self.count_here(Kind::UnknownKeys, address, self.quotas.unknown_keys)
    }

    /// Refunds a call with valid keys that [`Limits::unknown_keys`] counted.
    pub fn known_keys(&self, address: IpAddr) {
        if let Some(quota) = self.quotas.unknown_keys {
            self.own.refund(Kind::UnknownKeys, &Who::address(address), quota, self.clock.now());
        }
    }

    /// Counts a sign-up step that sends no e-mail.
    ///
    /// # Errors
    /// Returns [`TooMany`] above the limit.
    pub async fn sign_up(&self, address: IpAddr) -> Result<(), TooMany> {
        self.count(Kind::SignUp, Who::address(address), self.quotas.sign_ups).await.map(|_| ())
    }

    /// Counts, on this node only, a read of a profile image.
    ///
    /// # Errors
    /// Returns [`TooMany`] above the limit.
    pub fn image(&self, address: IpAddr) -> Result<(), TooMany> {
        self.count_here(Kind::Image, address, self.quotas.images)
    }

    /// Counts an e-mail that a client at `address` requests, regardless of the recipient. Callers must call this before
    /// any lookup.
    ///
    /// # Errors
    /// Returns [`TooMany`] above the limit.
    pub async fn mail_from(&self, address: IpAddr) -> Result<(), TooMany> {
        self.count(Kind::Mail, Who::address(address), self.quotas.mails).await.map(|_| ())
    }

    /// Counts an e-mail that a client at `address` requests for the mailbox `email`, whether or not the e-mail is then
    /// sent. Callers must call this before any lookup, so that a rejection reveals nothing about the account.
    ///
    /// # Errors
    /// Returns [`TooMany`] above either limit, with the time after which both limits permit the call.
    pub async fn mail(&self, address: IpAddr, email: &str) -> Result<(), TooMany> {
        let next_in = self.count(Kind::Mail, Who::address(address), self.quotas.mails).await?;
        self.mailbox(email).await.map_err(|TooMany { retry_after }| TooMany { retry_after: retry_after.max(next_in) })
    }

    /// Counts an e-mail to `email`. The caller must limit the requests of one sender by other means.
    ///
    /// # Errors
    /// Returns [`TooMany`] above the limit.
    pub async fn mailbox(&self, email: &str) -> Result<(), TooMany> {
        self.count(Kind::Mailbox, Who::account(&mailbox_key(email)), self.quotas.mails_per_mailbox).await.map(|_| ())
    }

    /// Counts a test of a host's webhook.
    ///
    /// # Errors
    /// Returns [`TooMany`] above the limit.
    pub async fn webhook_test(&self, host: HostId) -> Result<(), TooMany> {
        self.count(Kind::WebhookTest, Who::host(host), self.quotas.webhook_tests).await.map(|_| ())
    }

    fn count_here(&self, kind: Kind, address: IpAddr, quota: Option<Quota>) -> Result<(), TooMany> {
        let Some(quota) = quota else { return Ok(()) };
        self.judge(kind, self.own.take(kind, &Who::address(address), quota, self.clock.now())).map(|_| ())
    }

    /// Takes one chunk of a host's daily bytes from the shared budget.
    ///
    /// # Errors
    /// Returns the time until a chunk is available.
    async fn host_bytes(&self, host: HostId, side: Side) -> Result<(), Duration> {
        let Some(quota) = self.quotas.host_bytes else { return Ok(()) };
        let who = Who::host(host);
        let kind = if side.is_host() { Kind::OwnBytes } else { Kind::GuestBytes };
        let verdict = match self.ask(kind, &who, quota.chunks).await {
            Some(verdict) => verdict,
            None => self.own.take(kind, &who, quota.chunks, self.clock.now()),
        };
        if verdict.passes { Ok(()) } else { Err(verdict.next_in) }
    }

    /// Counts one attempt. Returns the time until the next attempt passes.
    async fn count(&self, kind: Kind, who: Who, quota: Option<Quota>) -> Result<Duration, TooMany> {
        let Some(quota) = quota else { return Ok(Duration::ZERO) };
        let verdict = match self.ask(kind, &who, quota).await {
            Some(verdict) => verdict,
            None => self.own.take(kind, &who, quota, self.clock.now()),
        };
        self.judge(kind, verdict)
    }

    /// Refunds one attempt that [`count`](Self::count) counted. If the refund fails, the attempt stays counted until
    /// the bucket refills.
    async fn refund(&self, kind: Kind, who: &Who, quota: Quota) {
        let is_alone = self.fallback_until.load(Relaxed) != 0;
        if is_alone {
            self.own.refund(kind, who, quota, self.clock.now());
        } else if let Err(error) = self.shared.refund(kind, who, quota).await {
            tracing::debug!(%error, kind = kind.name(), "failed to refund shared rate limit token");
        }
    }

    /// Counts one attempt across nodes. Returns `None` while the shared throttle is unavailable.
    async fn ask(&self, kind: Kind, who: &Who, quota: Quota) -> Option<Verdict> {
        let (now, until) = (self.now(), self.fallback_until.load(Relaxed));
        if until != 0 {
            // `is_over` is also true after the clock has been set back.
            let is_over = !(now..=now + FALLBACK).contains(&until);
            // One caller retries the shared throttle. Until the retry succeeds, the other callers count on this node.
            let is_retrying =
                is_over && self.fallback_until.compare_exchange(until, now + FALLBACK, Relaxed, Relaxed).is_ok();
            if !is_retrying {
                return None;
            }
        }
        match self.shared.take(kind, who, quota).await {
            Ok(verdict) => {
                self.fallback_until.store(0, Relaxed);
                Some(verdict)
            }
            Err(error) => {
                self.fallback_until.store(self.now() + FALLBACK, Relaxed);
                tracing::warn!(%error, kind = kind.name(), "failed to take shared rate limit token, limiting per node");
                None
            }
        }
    }

    fn now(&self) -> i64 {
        self.clock.now().timestamp_micros()
    }

    /// Returns the time until the next attempt passes, or [`TooMany`] for a rejection. A rejection is also counted in
    /// the metrics.
    fn judge(&self, kind: Kind, verdict: Verdict) -> Result<Duration, TooMany> {
        if verdict.passes {
            return Ok(verdict.next_in);
        }
        if let Some(call) = LimitedCall::of(kind) {
            self.metrics.limited.get(call).increment(1);
        }
        Err(TooMany { retry_after: verdict.next_in })
    }
}
