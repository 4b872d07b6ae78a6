//! The keys of a host's service: how a call proves them, and how they change without a page of his standing still.
//!
//! A pair that was replaced goes on for [a while](Accounts::with_key_grace), so that he can bring the new one to his pages. Each
//! has its own end, however often the keys change meanwhile; a pair that leaked is ended at once by revoking the old ones.

use std::time::Duration;

use subtle::ConstantTimeEq as _;

use super::{Accounts, Fault, hex};
use crate::control::Control;
use crate::domain::{Host, HostId};
use crate::store::{KeyHolder, KeyPair, OldKeys};

/// How long a replaced pair goes on unless the operator says otherwise: a page is cached for hours, seldom for days.
pub const DEFAULT_KEY_GRACE: Duration = Duration::from_secs(24 * 3_600);

impl Accounts {
    /// With another span for which a replaced pair goes on; none at all is fine, too.
    #[must_use]
    pub fn with_key_grace(mut self, grace: Duration) -> Self {
        self.key_grace = grace;
        self
    }

    /// Whether a secret goes with an access key and the pair has not ended. In constant time as far as the secret goes.
    pub fn opens(&self, holder: &KeyHolder, secret_key: &str) -> bool {
        let is_right = bool::from(holder.secret_key.as_bytes().ct_eq(secret_key.as_bytes()));
        is_right && holder.ends_at.is_none_or(|ends_at| self.clock.now() < ends_at)
    }

    /// Gives a host a new pair of keys, and tells all nodes; `None` if there is no such host. The pair until now goes on for a
    /// while, or ends at once with all that came before it.
    ///
    /// # Errors
    /// [`Fault`]: the keys may have changed.
    pub async fn rotate_keys(&self, host: HostId, revoke_old: bool) -> Result<Option<Host>, Fault> {
        let now = self.clock.now();
        let old = if revoke_old { OldKeys::Revoked } else { OldKeys::GoodUntil(now + self.key_grace) };
        let rotated = self.store.rotate_keys(host, &self.new_keys(), old, now).await?;
        if rotated.is_some() {
            tracing::info!(host = host.0, revoke_old, "keys of host replaced");
            (self.announce)(Control::ConfigChanged { host }).await;
        }
        Ok(rotated)
    }

    /// 22 url-safe characters and 64 hex digits (SPEC 2).
    pub(super) fn new_keys(&self) -> KeyPair {
        KeyPair { access_key: self.random_token(), secret_key: hex(&self.chance.bytes::<32>()) }
    }
}
