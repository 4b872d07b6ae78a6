//! Password hashes of an earlier Django installation: `pbkdf2_sha256$<iterations>$<salt>$<hash>`. They are verified at
//! login and then replaced by Argon2id hashes ([`legacy_hashes`](super::legacy_hashes)).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pbkdf2::pbkdf2_hmac_array;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// First field of every Django hash.
pub(super) const SCHEME: &str = "pbkdf2_sha256";

/// Maximum iteration count of a hash that is verified: about five times the default of current Django releases, and
/// about 2 s of CPU time.
const MAX_ITERATIONS: u32 = 5_000_000;

/// Maximum salt length in bytes. Django creates salts of 12 or 22 bytes.
const MAX_SALT_LEN: usize = 128;

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

    pub(super) fn iterations(&self) -> u32 {
        self.iterations
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

/// Measured duration of Django hash verification on this machine. Verifying a Django hash takes longer than verifying
/// an Argon2id hash. The duration is proportional to the iteration count.
#[derive(Debug, Default)]
pub(super) struct OldHashes {
    /// Highest iteration count of the hashes verified so far.
    iterations: AtomicU32,
    /// Time per iteration in the last verification, in picoseconds.
    picoseconds: AtomicU64,
}

impl OldHashes {
    /// Records the duration of one verification.
    pub(super) fn checked(&self, hash: &DjangoHash<'_>, took: Duration) {
        let each = took.as_nanos() * 1_000 / u128::from(hash.iterations);
        self.picoseconds.store(u64::try_from(each).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.iterations.fetch_max(hash.iterations, Ordering::Relaxed);
    }

    /// Returns the estimated time to verify the slowest Django hash seen so far. Returns zero if there was none.
    pub(super) fn slowest(&self) -> Duration {
        let (count, each) = (self.iterations.load(Ordering::Relaxed), self.picoseconds.load(Ordering::Relaxed));
        Duration::from_nanos(each.saturating_mul(count.into()) / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // These hashes were generated with Python's `hashlib.pbkdf2_hmac`, the function that Django uses.
    const PASS_WORD: &str = "pbkdf2_sha256$1000$7Tz2wYk1mXcB$f1dkMokJ+r4Ru92R4wJHjjwOVsFsOGA3WRI2sTQu4m0=";
    const KOREAN: &str = "pbkdf2_sha256$1$s$FCmzlDarkY6UFrnZQ1YzPpcNn8hRzjYxLvNXwTlR3b4=";

    #[test]
    fn django_hash_matches_only_its_password() {
        let hash = DjangoHash::parse(PASS_WORD).unwrap();
        assert_eq!((hash.iterations, hash.salt), (1_000, "7Tz2wYk1mXcB"));
        assert!(hash.opens_with(b"pass word"));
        assert!(!hash.opens_with(b"pass wort") && !hash.opens_with(b""));
        assert!(DjangoHash::parse(KOREAN).unwrap().opens_with("비밀번호 🙂".as_bytes()));
    }

    #[test]
    fn only_hashes_in_djangos_format_are_parsed() {
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
