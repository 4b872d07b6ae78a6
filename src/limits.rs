//! Limits: what one client may ask of the server, and what he is told when it is too much (DESIGN "Limits").
//!
//! Asked by the calls that are limited, before they do anything. Tries are counted, whatever comes of them. Handshakes are
//! counted by each node for itself, everything else across nodes; while what nodes share is away, each counts alone.
//!
//! **Invariant:** no limit is ever without a count, and none waits longer than a call to Redis may.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::Clock;
use crate::domain::HostId;
use crate::metric;
use crate::store::email_key;
use crate::throttle::{Buckets, Kind, Quota, Throttle, Verdict, Who};

mod budget;
#[cfg(test)]
mod tests;

pub use budget::{Budgets, ByteQuota, HostBudget};

/// How long a node counts alone before it asks again, in µs. Each asking may cost somebody the time limit of a call.
const ALONE: i64 = 2_000_000;

/// How often each may happen; `None`: as often as anybody likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// WebSocket handshakes of an address, on each node.
    pub handshakes: Option<Quota>,
    /// Rooms that an address makes, or a service that calls by itself.
    pub rooms: Option<Quota>,
    /// Logins from an address.
    pub logins_per_address: Option<Quota>,
    /// Logins for an account.
    pub logins_per_account: Option<Quota>,
    /// Mails that an address causes.
    pub mails: Option<Quota>,
    /// Mails to one mailbox, whoever causes them.
    pub mails_per_mailbox: Option<Quota>,
    /// Tests of a host's webhook.
    pub webhook_tests: Option<Quota>,
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

/// A login whose address may try it.
#[derive(Debug)]
#[must_use = "its account is counted, too"]
pub struct Attempt<'a> {
    limits: &'a Limits,
    /// When its address may try the next one.
    next_in: Duration,
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
        let Some(quota) = self.quotas.handshakes else { return Ok(()) };
        let verdict = self.own.take(Kind::Handshake, &Who::address(address), quota, self.clock.now());
        judge(Kind::Handshake, verdict).map(|_| ())
    }

    /// A room that is to be made.
    ///
    /// # Errors
    /// [`TooMany`].
    pub async fn room(&self, maker: Who) -> Result<(), TooMany> {
        self.count(Kind::Room, maker, self.quotas.rooms).await.map(|_| ())
    }

    /// A login, of whom it is not known yet.
    ///
    /// # Errors
    /// [`TooMany`]; the time is the address's, and the account may ask for more.
    pub async fn login(&self, address: IpAddr) -> Result<Attempt<'_>, TooMany> {
        let next_in = self.count(Kind::LoginAddress, Who::address(address), self.quotas.logins_per_address).await?;
        Ok(Attempt { limits: self, next_in })
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
        self.count(Kind::Mailbox, Who::account(&email_key(email)), self.quotas.mails_per_mailbox).await.map(|_| ())
    }

    /// A test of the webhook of a host, who is named by his access key.
    ///
    /// # Errors
    /// [`TooMany`].
    pub async fn webhook_test(&self, access_key: &str) -> Result<(), TooMany> {
        self.count(Kind::WebhookTest, Who::service(access_key), self.quotas.webhook_tests).await.map(|_| ())
    }

    /// Takes a chunk of a host's daily bytes.
    ///
    /// # Errors
    /// The time after which there is one.
    async fn host_bytes(&self, host: HostId) -> Result<(), Duration> {
        let Some(quota) = self.quotas.host_bytes else { return Ok(()) };
        let who = Who::service(&host.0.to_string());
        let verdict = match self.ask(Kind::HostBytes, &who, quota.chunks).await {
            Some(verdict) => verdict,
            None => self.own.take(Kind::HostBytes, &who, quota.chunks, self.clock.now()),
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
                tracing::warn!(%error, kind = kind.name(), "limits hold for this node alone");
                None
            }
        }
    }

    fn now(&self) -> i64 {
        self.clock.now().timestamp_micros()
    }
}

impl Attempt<'_> {
    /// Now it is known for whom; an account that does not exist is counted like one that does.
    ///
    /// # Errors
    /// [`TooMany`]; the time is one at which the address may try again as well.
    pub async fn at(self, email: &str) -> Result<(), TooMany> {
        let who = Who::account(&email_key(email));
        match self.limits.count(Kind::LoginAccount, who, self.limits.quotas.logins_per_account).await {
            Ok(_) => Ok(()),
            Err(TooMany { retry_after }) => Err(TooMany { retry_after: retry_after.max(self.next_in) }),
        }
    }
}

fn judge(kind: Kind, verdict: Verdict) -> Result<Duration, TooMany> {
    if verdict.passes {
        return Ok(verdict.next_in);
    }
    metrics::counter!(metric::LIMITED, "kind" => kind.name()).increment(1);
    Err(TooMany { retry_after: verdict.next_in })
}
