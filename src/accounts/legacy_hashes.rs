//! Replaces the password hashes of an earlier Django installation, each at the next login of its account.

use super::django::{DjangoHash, SCHEME};
use super::{Accounts, Fault, passwords};
use crate::domain::HostId;

/// Maximum number of stored hashes that are examined to find the slowest one. A sample suffices: the hashes come from a
/// few Django releases, and each release uses one iteration count.
const SAMPLE: u64 = 1_000;

impl Accounts {
    /// Measures how long the slowest stored Django hash takes to verify. Has no effect if none is stored. Until the
    /// measurement is complete, the response time for a wrong password reveals which accounts have a Django hash.
    ///
    /// # Errors
    /// Returns a [`Fault`] if a dependency fails.
    pub async fn measure_old_hashes(&self) -> Result<(), Fault> {
        let hashes = self.store.passwords().hashes_with_prefix(SCHEME, SAMPLE).await?;
        let slowest = hashes.iter().max_by_key(|hash| DjangoHash::parse(hash).map(|hash| hash.iterations()));
        if let Some(hash) = slowest {
            self.passwords.verify("", Some(hash.clone())).await?;
        }
        Ok(())
    }

    /// Replaces a Django hash with an Argon2id hash after a login, unless the stored hash is no longer `checked`. A
    /// failed replacement does not fail the login and is retried at the next login. Returns the new hash if `checked`
    /// was replaced, and `checked` otherwise.
    pub(super) async fn renew_hash(&self, host: HostId, password: &str, checked: String) -> String {
        if passwords::is_current(&checked) {
            return checked;
        }
        match self.try_to_renew(host, password, &checked).await {
            Ok(Some(renewed)) => {
                tracing::info!(host = host.0, "legacy password hash replaced");
                return renewed;
            }
            // A concurrent login or password change has replaced the hash. `create_login` rejects `checked`, and the
            // login is attempted again.
            Ok(None) => tracing::debug!(host = host.0, "password hash changed during login"),
            Err(why) => {
                tracing::warn!(host = host.0, error = %why, "failed to replace legacy password hash, retrying at next login")
            }
        }
        checked
    }

    async fn try_to_renew(&self, host: HostId, password: &str, checked: &str) -> Result<Option<String>, Fault> {
        let renewed = self.passwords.hash(password).await?;
        let replaced = self.store.passwords().replace_hash(host, checked, &renewed).await?;
        Ok(replaced.then_some(renewed))
    }
}
