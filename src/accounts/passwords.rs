//! Password hashing with Argon2id on blocking threads, with bounded concurrency. Django hashes are verified but never
//! created.

use std::sync::Arc;
use std::time::{Duration, Instant};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};

use super::django::{DjangoHash, OldHashes};
use super::hashing::{Busy, HashingSlots, Source};
use crate::domain::Rng;

/// Memory per hash in KiB (19 MiB). Together with [`PASSES`], this is the minimum configuration that OWASP recommends.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;

/// Hash that no password matches. It is verified if there is no readable hash, so that the response time does not
/// reveal whether an account exists.
const DUMMY_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Parsed form of a stored hash.
enum Stored<'a> {
    Argon2(Box<PasswordHash>),
    Django(DjangoHash<'a>),
    /// The hash is in neither format, so no password matches.
    Unreadable,
}

impl<'a> Stored<'a> {
    fn read(text: &'a str) -> Self {
        let phc = PasswordHash::new(text).ok();
        match phc.filter(|phc| phc.algorithm.as_str().starts_with("argon2") && phc.hash.is_some()) {
            Some(phc) => Stored::Argon2(Box::new(phc)),
            None => DjangoHash::parse(text).map_or(Stored::Unreadable, Stored::Django),
        }
    }
}

/// Returns whether a stored hash is in the format that [`Passwords::hash`] creates.
pub(super) fn is_current(stored: &str) -> bool {
    matches!(Stored::read(stored), Stored::Argon2(_))
}

/// Returns whether a stored hash can be parsed.
pub(super) fn is_readable(stored: &str) -> bool {
    !matches!(Stored::read(stored), Stored::Unreadable)
}

/// Reason why a password could not be hashed or verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too many passwords wait for a core. The caller may retry later.
    #[error("too many passwords are waiting to be verified")]
    Busy,
    /// Argon2 failed, or the blocking task panicked.
    #[error("failed to hash or verify the password")]
    Failed,
}

impl From<Busy> for PasswordError {
    fn from(_: Busy) -> Self {
        PasswordError::Busy
    }
}

/// Hashes and verifies passwords, at most one per core at a time. Clones share the queue.
#[derive(Clone)]
pub struct Passwords {
    slots: HashingSlots,
    source: Source,
    rng: Rng,
    old_hashes: Arc<OldHashes>,
}

impl Passwords {
    /// Creates a hasher that draws its salts from `rng`.
    pub fn new(rng: Rng) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { slots: HashingSlots::new(cores), source: Source::default(), rng, old_hashes: Arc::default() }
    }

    /// Returns a clone whose calls are queued with the priority of `source`.
    pub(super) fn of(&self, source: Source) -> Self {
        Self { source, ..self.clone() }
    }

    /// Hashes a password with a new salt and returns the PHC string.
    ///
    /// # Errors
    /// Returns a [`PasswordError`] if too many passwords wait for a core, or if hashing fails.
    pub async fn hash(&self, password: &str) -> Result<String, PasswordError> {
        let (password, salt) = (password.to_owned(), self.rng.bytes::<16>());
        self.on_a_core(move || {
            let hash: PasswordHash = argon2()?.hash_password_with_salt(password.as_bytes(), &salt).ok()?;
            Some(hash.to_string())
        })
        .await
    }

    /// Returns whether `password` matches `hash`. No password matches `None` or an unreadable hash. Every mismatch
    /// takes at least as long as a mismatch with the slowest Django hash seen so far.
    ///
    /// # Errors
    /// Returns a [`PasswordError`] if too many passwords wait for a core, or if hashing fails.
    pub async fn verify(&self, password: &str, hash: Option<String>) -> Result<bool, PasswordError> {
        let password = password.to_owned();
        let old_hashes = self.old_hashes.clone();
        let (right, took) = self
            .on_a_core(move || {
                let argon2 = argon2()?;
                let password = password.as_bytes();
                let began = Instant::now();
                let right = match hash.as_deref().map_or(Stored::Unreadable, Stored::read) {
                    Stored::Argon2(hash) => argon2.verify_password(password, &*hash).is_ok(),
                    Stored::Django(hash) => {
                        let right = hash.opens_with(password);
                        old_hashes.checked(&hash, began.elapsed());
                        right
                    }
                    Stored::Unreadable => {
                        let _worked = argon2.verify_password(password, DUMMY_HASH);
                        false
                    }
                };
                Some((right, began.elapsed()))
            })
            .await?;
        tokio::time::sleep(self.wait_after(right, took)).await;
        Ok(right)
    }

    /// Returns the delay that extends the duration of a mismatch to that of the slowest Django hash. A match is not
    /// delayed.
    fn wait_after(&self, right: bool, took: Duration) -> Duration {
        if right { Duration::ZERO } else { self.old_hashes.slowest().saturating_sub(took) }
    }

    async fn on_a_core<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Option<T> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let slot = self.slots.acquire(self.source).await?;
        // The task owns the slot, so that cancelling the caller does not release the slot before the task ends.
        tokio::task::spawn_blocking(move || {
            let _slot = slot;
            work()
        })
        .await
        .ok()
        .flatten()
        .ok_or(PasswordError::Failed)
    }
}

fn argon2() -> Option<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).ok()?;
    Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_mismatch_takes_as_long_as_the_slowest_stored_hash() {
        let passwords = Passwords::new(Rng::from_seed(1));
        let refuse = async |hash: Option<&str>| {
            let began = tokio::time::Instant::now();
            assert_eq!(passwords.verify("wrong", hash.map(str::to_owned)).await, Ok(false));
            began.elapsed()
        };
        let current = passwords.hash("pass word").await.unwrap();
        assert_eq!((refuse(None).await, refuse(Some(&current)).await), (Duration::ZERO, Duration::ZERO));
        let django = "pbkdf2_sha256$1000$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        refuse(Some(django)).await;
        assert!(passwords.old_hashes.slowest() > Duration::ZERO);
        let slow = DjangoHash::parse(django).unwrap().with_iterations(2_000);
        passwords.old_hashes.checked(&slow, Duration::from_secs(60));
        for hash in [None, Some(current.as_str()), Some("unreadable"), Some(django)] {
            let waited = refuse(hash).await;
            assert!(waited > Duration::from_millis(1), "{waited:?}");
        }
        passwords.old_hashes.checked(&slow, Duration::from_secs(60));
        let waited = |right, millis| passwords.wait_after(right, Duration::from_millis(millis));
        assert_eq!(waited(false, 20_000), Duration::from_secs(40));
        assert_eq!((waited(false, 70_000), waited(true, 1)), (Duration::ZERO, Duration::ZERO));
    }

    #[tokio::test]
    async fn password_matches_only_its_own_hash() {
        let passwords = Passwords::new(Rng::from_seed(1));
        let hash = passwords.hash("correct horse").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(passwords.hash("correct horse").await.unwrap(), hash, "every hash has a different salt");
        assert_eq!(passwords.verify("correct horse", Some(hash.clone())).await, Ok(true));
        assert_eq!(passwords.verify("correct horses", Some(hash)).await, Ok(false));
    }

    #[tokio::test]
    async fn django_hash_is_verified_and_unreadable_hash_never_matches() {
        let passwords = Passwords::new(Rng::from_seed(1));
        let verify = async |password: &str, hash: &str| passwords.verify(password, Some(hash.to_owned())).await;
        let django = "pbkdf2_sha256$1000$7Tz2wYk1mXcB$f1dkMokJ+r4Ru92R4wJHjjwOVsFsOGA3WRI2sTQu4m0=";
        assert_eq!(verify("pass word", django).await, Ok(true));
        assert_eq!(verify("pass wort", django).await, Ok(false));
        assert!(is_readable(django) && !is_current(django) && is_current(DUMMY_HASH));
        for bad in ["", "!", "pass word", "pbkdf2_sha256$9999999$salt$AAAA", "$argon2id$", "$argon2id$v=19$m=1"] {
            assert_eq!(verify("pass word", bad).await, Ok(false), "{bad}");
            assert!(!is_readable(bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn dummy_hash_matches_no_password_and_costs_the_same_work() {
        let parsed = PasswordHash::new(DUMMY_HASH).unwrap();
        assert_eq!(Params::try_from(&parsed).unwrap().m_cost(), MEMORY_KIB);
        let passwords = Passwords::new(Rng::from_seed(1));
        assert_eq!(passwords.verify("", None).await, Ok(false));
    }
}
