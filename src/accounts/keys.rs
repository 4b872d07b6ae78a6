//! Service keys of a host: verification and rotation without downtime.
//!
//! A replaced pair stays valid for a [grace period](Accounts::with_key_grace), so that the host can install the new
//! pair on their pages. Later rotations do not extend this period. Rotating with `revoke_old` revokes a leaked pair
//! immediately.

use std::sync::Arc;
use std::time::Duration;

use subtle::ConstantTimeEq as _;

use super::{Accounts, Fault, hex};
use crate::domain::{Host, HostId};
use crate::store::{KeyHolder, KeyPair, OldKeys};

/// Default grace period of a replaced pair. One day suffices, because pages are cached for hours and rarely for days.
pub const DEFAULT_KEY_GRACE: Duration = Duration::from_secs(24 * 3_600);

impl Accounts {
    /// Sets the grace period of replaced pairs. With zero, a replaced pair is revoked immediately.
    #[must_use]
    pub fn with_key_grace(mut self, grace: Duration) -> Self {
        self.key_grace = grace;
        self
    }

    /// Returns the host of a valid key pair if the host is active and cached on this node.
    pub async fn cached_key_holder(&self, access_key: &str, secret_key: &str) -> Option<Arc<Host>> {
        let holder = self.hosts.cached_by_access_key(access_key).await?;
        self.is_valid_pair(&holder, secret_key).then(|| holder.host.clone())
    }

    /// Returns the host of a key pair, or `None` if the pair is not valid or the host is not active.
    ///
    /// # Errors
    /// Returns a [`Fault`] if a dependency fails.
    pub async fn key_holder(&self, access_key: &str, secret_key: &str) -> Result<Option<Arc<Host>>, Fault> {
        let holder = self.hosts.by_access_key(access_key).await?;
        Ok(holder.filter(|holder| self.is_valid_pair(holder, secret_key)).map(|holder| holder.host.clone()))
    }

    /// Returns whether the secret key belongs to the access key, the pair is still valid, and its host is active. The
    /// secrets are compared in constant time.
    fn is_valid_pair(&self, holder: &KeyHolder, secret_key: &str) -> bool {
        let is_right = bool::from(holder.secret_key.as_bytes().ct_eq(secret_key.as_bytes()));
        is_right && holder.ends_at.is_none_or(|ends_at| self.clock.now() < ends_at) && !holder.host.is_deleted
    }

    /// Replaces the key pair of a host and publishes the change to all nodes. Returns the host with the new pair, or
    /// `None` if there is no such host. With `revoke_old`, all earlier pairs are revoked immediately. Otherwise, the
    /// replaced pair stays valid for the grace period.
    ///
    /// # Errors
    /// Returns a [`Fault`] if the database fails. The keys may nevertheless have been replaced.
    pub async fn rotate_keys(&self, host: HostId, revoke_old: bool) -> Result<Option<Host>, Fault> {
        let now = self.clock.now();
        let old = if revoke_old { OldKeys::Revoked } else { OldKeys::GoodUntil(now + self.key_grace) };
        let rotated = self.store.keys().rotate(host, &self.new_keys(), old, now).await;
        // The change may have been committed despite the error, so the host is evicted from the cache.
        let rotated = rotated.inspect_err(|_| self.hosts.evict(host))?;
        if rotated.is_some() {
            tracing::info!(host = host.0, revoke_old, "service keys of host replaced");
            self.host_changed(host).await;
        }
        Ok(rotated)
    }

    /// Returns a new pair: an access key of 22 URL-safe characters and a secret key of 64 hex digits (SPEC 2).
    pub(super) fn new_keys(&self) -> KeyPair {
        KeyPair { access_key: self.random_token(), secret_key: hex(self.rng.bytes::<32>()) }
    }
}
