//! Limits: what one client may ask of the server, and what he is told when it is too much (DESIGN "Limits").
//!
//! Asked by the calls that are limited, before they do anything. Tries are counted, successful or not; failed logins are
//! counted as such ([`Attempt`]). Handshakes, unknown keys and images are counted by each node for itself, everything else
//! across nodes; while what nodes share is away, each counts alone.
//!
//! **Invariant:** no limit is ever without a count, and none waits longer than a call to Redis may.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::Clock;
use crate::domain::{HostId, Side};
use crate::metric;
use crate::store::mailbox_key;
use crate::throttle::{Buckets, Kind, Quota, Throttle, Verdict, Who};

mod budget;
mod logins;
#[cfg(test)]
mod tests;

pub use budget::{Budgets, ByteQuota, HostBudget};
pub use logins::{Attempt, Trial};

/// How long a node counts alone before it asks again, in µs. Each asking may cost somebody the time limit of a call.
const ALONE: i64 = 2_000_000;

/// How often each may happen; `None`: as often as anybody likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// WebSocket handshakes of an address, on each node.
    pub handshakes: Option<Quota>,
    /// Rooms that an address makes.
    pub rooms: Option<Quota>,
    /// Rooms that are made for a host by calls without `Origin`, from all addresses.
    pub rooms_per_host: Option<Quota>,
    /// Logins from an address.
    pub logins_per_address: Option<Quota>,
    /// Failed logins for an account from one address, per minute.
    pub login_failures_per_pair: Option<Quota>,
    /// Failed logins for an account from one address, per hour: one address never uses up what the account has.
    pub login_failures_per_pair_hour: Option<Quota>,
    /// Failed logins for an account from all addresses, per hour.
    pub login_failures_per_account: Option<Quota>,
    /// Mails that an address causes.
    pub mails: Option<Quota>,
    /// Mails to one mailbox, whoever causes them.
    pub mails_per_mailbox: Option<Quota>,
    /// Tests of a host's webhook.
    pub webhook_tests: Option<Quota>,
    /// Calls of an address with unknown keys, on each node.
    pub unknown_keys: Option<Quota>,
    /// Steps of signing up that an address takes and that send no e-mail.
    pub sign_ups: Option<Quota>,
    /// Profile images that an address reads, on each node.
    pub images: Option<Quota>,
    /// Bytes of messages in a host's rooms.
    pub host_bytes: Option<ByteQuota>,
}

/// Above a limit. After that time the same call passes, if nobody else of the same address was faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many: come back in {retry_after:?}")]
pub struct TooMany {
    /// When to come back.
    pub retry_after: Duration,
}

impl TooMany {
    /// When to come back, in whole seconds; at least 1.
    pub fn seconds(&self) -> u64 {
        let started = u64::from(self.retry_after.subsec_nanos() > 0);
        (self.retry_after.as_secs() + started).max(1)
    }

    /// The later of this time and another one.
    fn or_later(self, other: Duration) -> Self {
        Self { retry_after: self.retry_after.max(other) }
    }
}

/// The limits of a node.
pub struct Limits {
    quotas: Quotas,
    shared: Arc<dyn Throttle>,
    own: Buckets,
    clock: Arc<dyn Clock>,
    /// Until when this node counts alone, in µs since 1970; 0 while it does not.
    alone_until: AtomicI64,
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits").field("quotas", &self.quotas).finish_non_exhaustive()
    }
}

impl Limits {
    /// Counts across nodes with `shared`.
    pub fn new(quotas: Quotas, shared: Arc<dyn Throttle>, clock: Arc<dyn Clock>) -> Self {
        Self { quotas, shared, own: Buckets::default(), clock, alone_until: AtomicI64::new(0) }
    }

    /// A WebSocket handshake.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn handshake(&self, address: IpAddr) -> Result<(), TooMany> {
        self.count_here(Kind::Handshake, address, self.quotas.handshakes)
    }

    /// A room that is to be made by an address.
    ///
    /// # Errors
    /// [`TooMany`].
    pub async fn room(&self, address: IpAddr) -> Result<(), TooMany> {
        self.count(Kind::Room, Who::address(address), self.quotas.rooms).await.map(|_| ())
    }

    /// A room that is to be made for a host by a call without `Origin`. The address is counted first: one of them never uses up
    /// what the host has.
    ///
    /// # Errors
    /// [`TooMany`]; the time is one at which both pass.
    pub async fn room_of(&self, host: HostId, address: IpAddr) -> Result<(), TooMany> {
        let next_in = self.count(Kind::Room, Who::address(address), self.quotas.rooms).await?;
        let counted = self.count(Kind::Room, Who::host(host), self.quotas.rooms_per_host).await;
        counted.map(|_| ()).map_err(|above| above.or_later(next_in))
    }

    /// A call whose keys are not known yet. Counted on this node, without asking another; see [`Limits::known_keys`].
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn unknown_keys(&self, address: IpAddr) -> Result<(), TooMany> {
        self.count_here(Kind::UnknownKeys, address, self.quotas.unknown_keys)
    }

    /// The keys of a call that was counted by [`Limits::unknown_keys`] are right: it does not count.
    pub fn known_keys(&self, address: IpAddr) {
        if let Some(quota) = self.quotas.unknown_keys {
            self.own.give_back(Kind::UnknownKeys, &Who::address(address), quota, self.clock.now());
        }
    }

    /// A step of signing up that sends no e-mail.
    ///
    /// # Errors
    /// [`TooMany`].
    pub async fn sign_up(&self, address: IpAddr) -> Result<(), TooMany> {
        self.count(Kind::SignUp, Who::address(address), self.quotas.sign_ups).await.map(|_| ())
    }

    /// A profile image that is to be read. Counted on this node, without asking another.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn image(&self, address: IpAddr) -> Result<(), TooMany> {
        self.count_here(Kind::Image, address, self.quotas.images)
    }

    /// An e-mail that a call from this address may cause, to any recipient. To be asked before anything is looked up.
    ///
    /// # Errors
    /// [`TooMany`].
    pub async fn mail_from(&self, address: IpAddr) -> Result<(), TooMany> {
        self.count(Kind::Mail, Who::address(address), self.quotas.mails).await.map(|_| ())
    }

    /// A mail to `email` that a call from this address may cause. To be asked before anything is looked up, so that a refusal
    /// tells nothing about the account; it counts whether there is anything to mail or not.
    ///
    /// # Errors
    /// [`TooMany`]; the time is one at which both pass.
    pub async fn mail(&self, address: IpAddr, email: &str) -> Result<(), TooMany> {
        let next_in = self.count(Kind::Mail, Who::address(address), self.quotas.mails).await?;
        self.mailbox(email).await.map_err(|TooMany { retry_after }| TooMany { retry_after: retry_after.max(next_in) })
    }

    /// A mail to `email` that somebody causes who is counted otherwise.
    ///
    /// # Errors
    /// [`TooMany`].
    pub async fn mailbox(&self, email: &str) -> Result<(), TooMany> {
        self.count(Kind::Mailbox, Who::account(&mailbox_key(email)), self.quotas.mails_per_mailbox).await.map(|_| ())
    }

    /// A test of the webhook of a host.
    ///
    /// # Errors
    /// [`TooMany`].
    pub async fn webhook_test(&self, host: HostId) -> Result<(), TooMany> {
        self.count(Kind::WebhookTest, Who::host(host), self.quotas.webhook_tests).await.map(|_| ())
    }

    fn count_here(&self, kind: Kind, address: IpAddr, quota: Option<Quota>) -> Result<(), TooMany> {
        let Some(quota) = quota else { return Ok(()) };
        judge(kind, self.own.take(kind, &Who::address(address), quota, self.clock.now())).map(|_| ())
    }

    /// Takes a chunk of a host's daily bytes.
    ///
    /// # Errors
    /// The time after which there is one.
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

    /// In how long the next one passes.
    async fn count(&self, kind: Kind, who: Who, quota: Option<Quota>) -> Result<Duration, TooMany> {
        let Some(quota) = quota else { return Ok(Duration::ZERO) };
        let verdict = match self.ask(kind, &who, quota).await {
            Some(verdict) => verdict,
            None => self.own.take(kind, &who, quota, self.clock.now()),
        };
        judge(kind, verdict)
    }

    /// Puts one back that [`count`](Self::count) took. Should that fail, the bucket fills by itself.
    async fn give_back(&self, kind: Kind, who: &Who, quota: Quota) {
        let is_alone = self.alone_until.load(Relaxed) != 0;
        if is_alone {
            self.own.give_back(kind, who, quota, self.clock.now());
        } else if let Err(error) = self.shared.give_back(kind, who, quota).await {
            tracing::debug!(%error, kind = kind.name(), "failed to return reserved budget");
        }
    }

    /// What all nodes together have counted; `None` while nobody knows.
    async fn ask(&self, kind: Kind, who: &Who, quota: Quota) -> Option<Verdict> {
        let (now, until) = (self.now(), self.alone_until.load(Relaxed));
        if until != 0 {
            // Also when the clock has been put back.
            let is_over = !(now..=now + ALONE).contains(&until);
            // One asks whether it is back; meanwhile the others go on alone.
            let asks = is_over && self.alone_until.compare_exchange(until, now + ALONE, Relaxed, Relaxed).is_ok();
            if !asks {
                return None;
            }
        }
        match self.shared.take(kind, who, quota).await {
            Ok(verdict) => {
                self.alone_until.store(0, Relaxed);
                Some(verdict)
            }
            Err(error) => {
                self.alone_until.store(self.now() + ALONE, Relaxed);
                tracing::warn!(%error, kind = kind.name(), "limit state unavailable, limits apply per node");
                None
            }
        }
    }

    fn now(&self) -> i64 {
        self.clock.now().timestamp_micros()
    }
}

fn judge(kind: Kind, verdict: Verdict) -> Result<Duration, TooMany> {
    if verdict.passes {
        return Ok(verdict.next_in);
    }
    metrics::counter!(metric::LIMITED, "kind" => kind.name()).increment(1);
    Err(TooMany { retry_after: verdict.next_in })
}
