//! Password hashes of an earlier Django installation: `pbkdf2_sha256$<iterations>$<salt>$<hash>`. They are verified at
//! login and then replaced by Argon2id hashes.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pbkdf2::pbkdf2_hmac_array;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::{Accounts, Fault, passwords};
use crate::domain::HostId;

const SCHEME: &str = "pbkdf2_sha256";

/// Maximum number of iterations that are computed: five times the default of the newest Django release, about 2 s of
/// CPU time.
const MAX_ITERATIONS: u32 = 5_000_000;

/// Maximum salt length in bytes. Django's salts have 12 or 22.
const MAX_SALT_LEN: usize = 128;

/// Number of stored hashes that are searched for the slowest. They come from a few Django releases, each with its own
/// iteration count.
const SAMPLE: u64 = 1_000;

/// Length of a hash in bytes.
const HASH_LEN: usize = 32;

/// A parsed Django hash.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DjangoHash<'a> {
    iterations: u32,
    salt: &'a str,
    hash: [u8; HASH_LEN],
}

impl<'a> DjangoHash<'a> {
    /// Parses exactly the form that Django writes; returns `None` for anything else.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split('$');
        let (scheme, iterations, salt, hash) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_number = !iterations.starts_with('0') && iterations.bytes().all(|byte| byte.is_ascii_digit());
        let iterations = iterations.parse().ok().filter(|count| is_number && (1..=MAX_ITERATIONS).contains(count))?;
        let fits = scheme == SCHEME && (1..=MAX_SALT_LEN).contains(&salt.len()) && parts.next().is_none();
        let hash = STANDARD.decode(hash).ok()?.try_into().ok()?;
        fits.then_some(Self { iterations, salt, hash })
    }

    #[cfg(test)]
    pub(super) fn with_iterations(self, iterations: u32) -> Self {
        Self { iterations, ..self }
    }

    /// Returns whether `password` has this hash. Blocks for up to 2 s.
    pub(super) fn opens_with(&self, password: &[u8]) -> bool {
        let hash = pbkdf2_hmac_array::<Sha256, HASH_LEN>(password, self.salt.as_bytes(), self.iterations);
        hash.ct_eq(&self.hash).into()
    }
}

/// Time that Django hashes take to verify on this machine. They take longer than Argon2id, in proportion to their
/// iterations.
#[derive(Debug, Default)]
pub(super) struct OldHashes {
    /// Highest iteration count seen.
    iterations: AtomicU32,
    /// Time per iteration in the last verification.
    picoseconds: AtomicU64,
}

impl OldHashes {
    /// Records the duration of one verification.
    pub(super) fn checked(&self, hash: &DjangoHash<'_>, took: Duration) {
        let each = took.as_nanos() * 1_000 / u128::from(hash.iterations);
        self.picoseconds.store(u64::try_from(each).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.iterations.fetch_max(hash.iterations, Ordering::Relaxed);
    }

    /// Duration of the slowest known hash; zero if there is none.
    pub(super) fn slowest(&self) -> Duration {
        let (count, each) = (self.iterations.load(Ordering::Relaxed), self.picoseconds.load(Ordering::Relaxed));
        Duration::from_nanos(each.saturating_mul(count.into()) / 1_000)
    }
}

impl Accounts {
    /// Measures how long a Django hash takes to verify, if one is stored. Until this is known, the response time of a
    /// wrong password reveals which accounts have a Django hash.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn measure_old_hashes(&self) -> Result<(), Fault> {
        let hashes = self.store.passwords().hashes_with_prefix(SCHEME, SAMPLE).await?;
        let slowest = hashes.iter().max_by_key(|hash| DjangoHash::parse(hash).map(|hash| hash.iterations));
        if let Some(hash) = slowest {
            self.passwords.verify("", Some(hash.clone())).await?;
        }
        Ok(())
    }

    /// Replaces a Django hash by an Argon2id hash after a login, unless the password was changed meanwhile. The login
    /// does not depend on it: a failed replacement is retried at the next login. Returns the hash that is stored now.
    pub(super) async fn renew_hash(&self, host: HostId, password: &str, checked: String) -> String {
        if passwords::is_of_today(&checked) {
            return checked;
        }
        match self.try_to_renew(host, password, &checked).await {
            Ok(Some(renewed)) => {
                tracing::info!(host = host.0, "legacy password hash replaced by Argon2id");
                return renewed;
            }
            // Concurrent login or password change: `create_login` then rejects the old hash, and the login is tried
            // again.
            Ok(None) => tracing::debug!(host = host.0, "password hash replaced during its check"),
            Err(why) => {
                tracing::warn!(host = host.0, %why, "failed to replace legacy password hash, kept until next login")
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

#[cfg(test)]
mod tests {
    use super::*;

    // Generated with Python's hashlib.pbkdf2_hmac, which Django uses.
    const PASS_WORD: &str = "pbkdf2_sha256$1000$7Tz2wYk1mXcB$f1dkMokJ+r4Ru92R4wJHjjwOVsFsOGA3WRI2sTQu4m0=";
    const KOREAN: &str = "pbkdf2_sha256$1$s$FCmzlDarkY6UFrnZQ1YzPpcNn8hRzjYxLvNXwTlR3b4=";

    #[test]
    fn a_hash_of_django_opens_with_its_password_only() {
        let hash = DjangoHash::parse(PASS_WORD).unwrap();
        assert_eq!((hash.iterations, hash.salt), (1_000, "7Tz2wYk1mXcB"));
        assert!(hash.opens_with(b"pass word"));
        assert!(!hash.opens_with(b"pass wort") && !hash.opens_with(b""));
        assert!(DjangoHash::parse(KOREAN).unwrap().opens_with("비밀번호 🙂".as_bytes()));
    }

    #[test]
    fn what_django_does_not_write_is_not_read() {
        let hash = "f1dkMokJ+r4Ru92R4wJHjjwOVsFsOGA3WRI2sTQu4m0=";
        for bad in [
            String::new(),
            "!".into(),
            "pbkdf2_sha256".into(),
            "pbkdf2_sha256$$$".into(),
            format!("pbkdf2_sha1$1000$salt${hash}"),
            format!("PBKDF2_SHA256$1000$salt${hash}"),
            format!("pbkdf2_sha256$1000$${hash}"),
            format!("pbkdf2_sha256$1000${}${hash}", "s".repeat(MAX_SALT_LEN + 1)),
            format!("pbkdf2_sha256$1000$salt${hash}$"),
            format!("pbkdf2_sha256$1000$salt${hash}\n"),
            format!("pbkdf2_sha256$1000$salt${}", hash.trim_end_matches('=')),
            "pbkdf2_sha256$1000$salt$AAAA".into(),
            "pbkdf2_sha256$1000$salt$한글".into(),
        ] {
            assert_eq!(DjangoHash::parse(&bad), None, "{bad}");
        }
        for iterations in
            ["", "0", "01000", "+1000", "-1", "1e3", " 1000", "5000001", "4294967297", "99999999999999999999"]
        {
            assert_eq!(DjangoHash::parse(&format!("pbkdf2_sha256${iterations}$salt${hash}")), None, "{iterations}");
        }
        assert!(DjangoHash::parse(&format!("pbkdf2_sha256$5000000$salt${hash}")).is_some());
    }
}
