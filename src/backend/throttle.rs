//! Rate limits that apply to all nodes together.
//!
//! [`redis`](crate::backend::redis::throttle) implements the port for a cluster, and
//! [`embedded`](crate::backend::embedded::throttle) implements it for a single-node server. Both drivers pass the same
//! test suite.
//!
//! A [`Quota`] is a token bucket that refills steadily. A full bucket of 20 per minute allows 20 calls at once, and
//! then one call every 3 s. [`Throttle::take`] takes a token, or returns the time until the next token. A rejected call
//! takes no token. The returned time is therefore exact if there is no other call. Concurrent calls for the same bucket
//! are serialised across all nodes, so no token is taken twice.
//!
//! **Invariant:** a bucket is stored as the instant at which it will be full, and need not be stored after that
//! instant. Even after a clock change, this instant is at most the span of the quota in the future.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::backend::Unavailable;
use crate::domain::HostId;

mod buckets;
#[cfg(test)]
mod suite;

pub use buckets::Buckets;

/// Port for the rate limits. The module documentation lists its guarantees.
#[async_trait]
pub trait Throttle: Send + Sync + 'static {
    /// Takes a token from a bucket, if the bucket has one. If the call is cancelled or returns `Unavailable`, the token
    /// may have been taken.
    async fn take(&self, kind: Kind, who: &Who, quota: Quota) -> Result<Verdict, Unavailable>;

    /// Puts a token back into its bucket, because the operation must not count. If the call is cancelled or returns
    /// `Unavailable`, the bucket may lack the token.
    async fn refund(&self, kind: Kind, who: &Who, quota: Quota) -> Result<(), Unavailable>;
}

/// Kind of rate-limited operation. Each kind has separate buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// WebSocket handshakes per address.
    Handshake,
    /// Created rooms per address or per host.
    Room,
    /// Login attempts per address.
    LoginAddress,
    /// Failed logins per minute, per device or per combination of account and address.
    LoginPair,
    /// Failed logins per hour, per device or per combination of account and address.
    LoginPairHour,
    /// Failed logins per hour, per device or per account from all addresses.
    LoginAccount,
    /// E-mails requested from an address.
    Mail,
    /// E-mails to a mailbox.
    Mailbox,
    /// Chunks of bytes per day that the guests of a host may send.
    GuestBytes,
    /// Chunks of bytes per day that a host may send.
    OwnBytes,
    /// Webhook tests per host.
    WebhookTest,
    /// Requests with unknown service keys, per address.
    UnknownKeys,
    /// Steps of the sign-up that send no e-mail, per address.
    SignUp,
    /// Reads of profile images per address.
    Image,
}

impl Kind {
    /// Number of kinds.
    const COUNT: usize = Kind::Image as usize + 1;

    /// Returns the name of the kind in keys and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Room => "room",
            Self::LoginAddress => "login_address",
            Self::LoginPair => "login_pair",
            Self::LoginPairHour => "login_pair_hour",
            Self::LoginAccount => "login_account",
            Self::Mail => "mail",
            Self::Mailbox => "mailbox",
            Self::GuestBytes => "guest_bytes",
            Self::OwnBytes => "own_bytes",
            Self::WebhookTest => "webhook_test",
            Self::UnknownKeys => "unknown_keys",
            Self::SignUp => "sign_up",
            Self::Image => "image",
        }
    }
}

/// Owner of a bucket. Its string form is part of the key and is unique within a kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Who(Is);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Is {
    Network(IpAddr),
    Host(HostId),
    Digest([u8; 16]),
}

impl Who {
    /// Returns the owner that represents all clients with this IPv4 address, or in the /64 network of this IPv6
    /// address.
    pub fn address(address: IpAddr) -> Self {
        Self(Is::Network(network(address)))
    }

    /// Returns the owner that represents a host. It does not change when the host's service keys change.
    pub fn host(id: HostId) -> Self {
        Self(Is::Host(id))
    }

    /// Returns the owner that represents an account, identified by its normalised e-mail address. The account need not
    /// exist. The owner contains only a digest of the e-mail address.
    pub fn account(email_key: &str) -> Self {
        Self::digest(&[email_key])
    }

    /// Returns the owner that represents an account in combination with one address. The account need not exist. The
    /// owner contains only a digest of both.
    pub fn account_from(email_key: &str, address: IpAddr) -> Self {
        Self::digest(&[email_key, "\0from\0", &network(address).to_string()])
    }

    /// Returns the owner that represents a device. The device is identified by the login session (`sid`) in its refresh
    /// cookie.
    pub fn device(sid: &str) -> Self {
        Self::digest(&["\0device\0", sid])
    }

    fn digest(parts: &[&str]) -> Self {
        let digest = parts.iter().fold(Sha256::new(), |digest, part| digest.chain_update(part)).finalize();
        Self(Is::Digest(std::array::from_fn(|at| digest[at])))
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Is::Network(IpAddr::V4(address)) => address.fmt(f),
            Is::Network(IpAddr::V6(network)) => write!(f, "{network}/64"),
            Is::Host(id) => write!(f, "host-{}", id.0),
            Is::Digest(digest) => f.write_str(&URL_SAFE_NO_PAD.encode(digest)),
        }
    }
}

/// Returns the part of an address that identifies one client. For an IPv4 address, it is the whole address. For an IPv6
/// address, it is the /64 network, because a client usually has a whole /64 network.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

/// Rate limit: a maximum number of events per span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Capacity of the bucket.
    pub(crate) burst: i64,
    /// Time in which the bucket gains one token, in µs. The time is rounded down to an integer. At 60,000 tokens per
    /// second, the rounding error is 4 %.
    pub(crate) interval: i64,
}

impl Quota {
    /// Creates a quota of `count` events per `span`. A `count` of 0 is treated as 1.
    pub fn new(count: u32, span: Duration) -> Self {
        let burst = i64::from(count.max(1));
        let span = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self { burst, interval: (span / burst).clamp(1, i64::MAX / (4 * burst)) }
    }

    /// Takes a token from a bucket that will be full at `full_at`, if the bucket has a token. Returns the new `full_at`
    /// and the verdict. Instants are in µs since 1970. The script of [`redis`](crate::backend::redis::throttle)
    /// implements the same algorithm.
    fn take(self, full_at: i64, now: i64) -> (i64, Verdict) {
        let Self { burst, interval } = self;
        // Without the upper bound, an empty bucket would stay empty for too long after the clock was set back.
        let mut full_at = full_at.clamp(now, now + burst * interval);
        let passes = full_at - (burst - 1) * interval <= now;
        if passes {
            full_at += interval;
        }
        let next_in = (full_at - (burst - 1) * interval - now).max(0);
        (full_at, Verdict { passes, next_in: micros(next_in) })
    }

    /// Puts a token back into a bucket that will be full at `full_at`. Returns the new `full_at`.
    fn refund(self, full_at: i64, now: i64) -> i64 {
        (full_at - self.interval).max(now)
    }
}

/// Result of an attempt to take a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether a token was taken.
    pub passes: bool,
    /// Time until the bucket has the next token, if no other call takes it.
    pub next_in: Duration,
}

pub(crate) fn micros(count: i64) -> Duration {
    Duration::from_micros(u64::try_from(count).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(address: &str) -> String {
        Who::address(address.parse().unwrap()).to_string()
    }

    #[test]
    fn an_ipv6_address_counts_as_its_64_bits_of_network() {
        assert_eq!(shown("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(shown("2001:db8:1:2:ffff::"), shown("2001:db8:1:2:3:4:5:6"));
        assert_ne!(shown("2001:db8:1:3::"), shown("2001:db8:1:2::"));
        assert_eq!(shown("192.0.2.7"), "192.0.2.7");
        assert_eq!(shown("::ffff:192.0.2.7"), "192.0.2.7");
    }

    #[test]
    fn of_an_account_only_a_digest_is_shown() {
        let shown = Who::account("dev@shop.example").to_string();
        assert_eq!(shown.len(), 22);
        assert!(!shown.contains("dev"));
        assert_ne!(shown, Who::account("dev@shop.exampl").to_string());
    }

    #[test]
    fn an_account_and_an_address_are_counted_together_and_an_ipv6_address_as_its_network() {
        let pair = |email, address: &str| Who::account_from(email, address.parse().unwrap());
        assert_eq!(pair("a@b", "2001:db8::1"), pair("a@b", "2001:db8::2"));
        assert_ne!(pair("a@b", "192.0.2.1"), pair("a@b", "192.0.2.2"));
        assert_ne!(pair("a@b", "192.0.2.1"), pair("a@c", "192.0.2.1"));
        assert_ne!(Who::account("a@b"), Who::device("a@b"));
    }

    #[test]
    fn no_quota_is_too_large_or_too_small_to_be_counted() {
        let second = Duration::from_secs(1);
        for quota in [Quota::new(0, second), Quota::new(u32::MAX, Duration::MAX), Quota::new(u32::MAX, Duration::ZERO)]
        {
            let now = 4_000_000_000_000_000;
            let (full_at, verdict) = quota.take(now, now);
            assert!(verdict.passes && full_at > now, "{quota:?}");
        }
    }
}
