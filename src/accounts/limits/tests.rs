use std::net::Ipv4Addr;
use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::*;
use crate::backend::Unavailable;
use crate::backend::embedded::throttle::MemoryThrottle;
use crate::backend::redis::testing::{Kind as Deployment, Servers};
use crate::backend::redis::throttle::RedisThrottle;
use crate::domain::clock::{ManualClock, SystemClock};

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const MINUTE: Duration = Duration::from_secs(60);

/// Throttle whose `take` fails while `unavailable` is set.
struct FailingThrottle {
    inner: MemoryThrottle,
    unavailable: Mutex<bool>,
    asked: AtomicUsize,
}

#[async_trait]
impl Throttle for FailingThrottle {
    async fn take(&self, kind: Kind, who: &Who, quota: Quota) -> Result<Verdict, Unavailable> {
        self.asked.fetch_add(1, Relaxed);
        if *self.unavailable.lock() {
            Err(Unavailable("unavailable".into()))
        } else {
            self.inner.take(kind, who, quota).await
        }
    }

    async fn refund(&self, kind: Kind, who: &Who, quota: Quota) -> Result<(), Unavailable> {
        self.inner.refund(kind, who, quota).await
    }
}

struct Setup {
    clock: Arc<ManualClock>,
    throttle: Arc<FailingThrottle>,
    limits: Limits,
}

impl Setup {
    fn with(quotas: Quotas) -> Self {
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let throttle = Arc::new(FailingThrottle {
            inner: MemoryThrottle::new(clock.clone()),
            unavailable: Mutex::new(false),
            asked: AtomicUsize::new(0),
        });
        let limits = Limits::new(quotas, throttle.clone(), clock.clone());
        Self { clock, throttle, limits }
    }

    fn usual() -> Self {
        let every = |count, span| Some(Quota::new(count, span));
        Self::with(Quotas {
            handshakes: every(600, MINUTE),
            rooms: every(60, MINUTE),
            rooms_per_host: every(600, MINUTE),
            logins_per_address: every(20, MINUTE),
            login_failures_per_pair: every(10, MINUTE),
            login_failures_per_pair_hour: every(50, 60 * MINUTE),
            login_failures_per_account: every(100, 60 * MINUTE),
            mails: every(5, 60 * MINUTE),
            unknown_keys: every(60, MINUTE),
            ..Quotas::default()
        })
    }

    fn set_unavailable(&self, unavailable: bool) {
        *self.throttle.unavailable.lock() = unavailable;
    }

    fn asked(&self) -> usize {
        self.throttle.asked.swap(0, Relaxed)
    }

    /// Attempts a login with a wrong password. Returns the retry time in seconds as an error if a limit rejects the
    /// attempt.
    async fn fail(&self, from: IpAddr, email: &str, device: Option<&str>) -> Result<(), u64> {
        let attempt = self.limits.login(from).await.map_err(|above| above.seconds())?;
        attempt.at(email, device).await.map(drop).map_err(|above| above.seconds())
    }

    /// Attempts a login with the right password. Returns the retry time in seconds as an error if a limit rejects the
    /// attempt.
    async fn pass(&self, from: IpAddr, email: &str, device: Option<&str>) -> Result<(), u64> {
        let attempt = self.limits.login(from).await.map_err(|above| above.seconds())?;
        attempt.at(email, device).await.map_err(|above| above.seconds())?.passed().await;
        Ok(())
    }

    /// Returns how many of `tries` e-mails pass.
    async fn mails(&self, tries: usize) -> usize {
        let mut passing = 0;
        for _ in 0..tries {
            passing += usize::from(self.limits.mail(HOME, "dev@shop.example").await.is_ok());
        }
        passing
    }
}

#[tokio::test]
async fn address_causes_at_most_five_emails_per_hour() {
    let setup = Setup::usual();
    assert_eq!(setup.mails(5).await, 5);
    let above = setup.limits.mail(HOME, "dev@shop.example").await.unwrap_err();
    assert_eq!(above.seconds(), 720);
    assert!(setup.limits.mail(IpAddr::V4(Ipv4Addr::BROADCAST), "dev@shop.example").await.is_ok());
    setup.clock.advance(Duration::from_secs(719));
    assert_eq!(setup.mails(1).await, 0);
    setup.clock.advance(Duration::from_secs(1));
    assert_eq!(setup.mails(2).await, 1);
}

#[tokio::test]
async fn emails_to_a_mailbox_are_limited_over_all_callers() {
    let setup = Setup::with(Quotas { mails_per_mailbox: Some(Quota::new(10, 60 * MINUTE)), ..Quotas::default() });
    let from = |at: u8| IpAddr::V4(Ipv4Addr::new(192, 0, 2, at));
    for at in 0..10 {
        let email = if at % 2 == 0 { "dev@shop.example" } else { "Dev@SHOP.example" };
        assert!(setup.limits.mail(from(at), email).await.is_ok());
    }
    let above = setup.limits.mail(from(10), "dev@shop.example").await.unwrap_err();
    assert_eq!(above.seconds(), 360);
    assert!(setup.limits.mail(from(10), "other@shop.example").await.is_ok());
}

fn from(at: u16) -> IpAddr {
    let [high, low] = at.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(198, 18, high, low))
}

#[tokio::test]
async fn failures_are_counted_per_account_in_any_spelling_even_if_it_does_not_exist() {
    let setup = Setup::usual();
    for at in 0..10 {
        let email = if at % 2 == 0 { "dev@shop.example" } else { "Dev@SHOP.example" };
        assert_eq!(setup.fail(HOME, email, None).await, Ok(()));
    }
    assert_eq!(setup.fail(HOME, "dev@shop.example", None).await, Err(6));
    assert_eq!(setup.fail(HOME, "other@shop.example", None).await, Ok(()));
    setup.clock.advance(Duration::from_secs(6));
    assert_eq!(setup.fail(HOME, "DEV@shop.example", None).await, Ok(()));
    assert_eq!(setup.fail(HOME, "dev@shop.example", None).await, Err(6));
}

#[tokio::test]
async fn wrong_passwords_from_one_address_block_only_that_address() {
    let setup = Setup::usual();
    let mut failures = 0;
    // For one hour, the address makes one attempt every 6 s. The per-minute limit permits this rate.
    for _ in 0..600 {
        failures += usize::from(setup.fail(HOME, "dev@shop.example", None).await.is_ok());
        setup.clock.advance(Duration::from_secs(6));
    }
    assert!((50..=100).contains(&failures), "{failures}");
    assert_eq!(setup.pass(from(1), "dev@shop.example", None).await, Ok(()));
}

#[tokio::test]
async fn right_password_counts_no_failure() {
    let setup = Setup::usual();
    for at in 0..300 {
        assert_eq!(setup.pass(from(at % 20), "dev@shop.example", None).await, Ok(()), "{at}");
        setup.clock.advance(Duration::from_secs(1));
    }
}

#[tokio::test]
async fn after_a_hundred_failures_only_known_devices_may_try() {
    let setup = Setup::usual();
    for at in 0..100 {
        assert_eq!(setup.fail(from(at), "dev@shop.example", None).await, Ok(()));
    }
    assert_eq!(setup.fail(from(100), "dev@shop.example", None).await, Err(36));
    assert_eq!(setup.fail(from(101), "other@shop.example", None).await, Ok(()));
    // The attempts of a device are counted per login, regardless of the address.
    for at in 0..10 {
        assert_eq!(setup.fail(from(200 + at), "dev@shop.example", Some("sid")).await, Ok(()));
    }
    assert_eq!(setup.fail(from(300), "dev@shop.example", Some("sid")).await, Err(6));
    assert_eq!(setup.pass(from(300), "dev@shop.example", Some("another")).await, Ok(()));
    setup.clock.advance(Duration::from_secs(36));
    assert_eq!(
        setup.fail(from(100), "dev@shop.example", None).await,
        Ok(()),
        "the call passes after the returned time"
    );
}

#[tokio::test]
async fn a_refusal_counts_no_failure() {
    let setup = Setup::usual();
    for at in 0..100 {
        assert_eq!(setup.fail(from(at), "dev@shop.example", None).await, Ok(()));
    }
    for _ in 0..20 {
        assert_eq!(setup.fail(HOME, "dev@shop.example", None).await, Err(36));
    }
    setup.clock.advance(10 * MINUTE);
    for _ in 0..10 {
        assert_eq!(setup.fail(HOME, "dev@shop.example", None).await, Ok(()), "no attempt was counted for the address");
    }
}

#[tokio::test]
async fn concurrent_calls_do_not_exceed_a_limit() {
    let setup = Setup::usual();
    let tries = (0..20).map(|_| setup.fail(HOME, "dev@shop.example", None));
    let passed = futures_util::future::join_all(tries).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(passed, 10);
}

#[tokio::test]
async fn call_without_origin_does_not_exhaust_the_hosts_limit() {
    let setup = Setup::usual();
    let host = HostId(7);
    let mut made = 0;
    for _ in 0..200 {
        made += usize::from(setup.limits.room_of(host, HOME).await.is_ok());
    }
    assert_eq!(made, 60);
    assert!(setup.limits.room_of(host, from(0)).await.is_ok());
    // The limit of the host applies to all addresses together.
    let mut made = 61;
    for at in 1..20 {
        for _ in 0..60 {
            made += usize::from(setup.limits.room_of(host, from(at)).await.is_ok());
        }
    }
    assert_eq!(made, 600);
    assert!(setup.limits.room_of(HostId(8), from(30)).await.is_ok());
    assert!(setup.limits.room(from(31)).await.is_ok(), "pages are not affected");
}

#[tokio::test]
async fn unknown_keys_are_counted_locally_and_known_keys_are_not() {
    let setup = Setup::usual();
    for _ in 0..1_000 {
        assert!(setup.limits.unknown_keys(HOME).is_ok());
        setup.limits.known_keys(HOME);
    }
    assert_eq!((0..100).filter(|_| setup.limits.unknown_keys(HOME).is_ok()).count(), 60);
    assert!(setup.limits.unknown_keys(from(1)).is_ok());
    assert_eq!(setup.asked(), 0);
}

#[tokio::test]
async fn login_passes_after_retry_after() {
    let one = |seconds| Some(Quota::new(1, Duration::from_secs(seconds)));
    let setup =
        Setup::with(Quotas { logins_per_address: one(30), login_failures_per_pair: one(10), ..Quotas::default() });
    assert_eq!(setup.fail(HOME, "dev@shop.example", None).await, Ok(()));
    // The limit of the address rejects the attempt, so it is not counted for the account.
    assert_eq!(setup.fail(HOME, "dev@shop.example", None).await, Err(30));
    setup.clock.advance(Duration::from_secs(30));
    assert_eq!(setup.fail(HOME, "dev@shop.example", None).await, Ok(()));

    let setup = Setup::with(Quotas {
        logins_per_address: Some(Quota::new(2, Duration::from_secs(60))),
        login_failures_per_account: one(10),
        ..Quotas::default()
    });
    assert_eq!(setup.fail(HOME, "dev@shop.example", None).await, Ok(()));
    // The limit of the account rejects the attempt, and the address has no attempts left.
    assert_eq!(setup.fail(HOME, "dev@shop.example", None).await, Err(30));
    setup.clock.advance(Duration::from_secs(30));
    assert_eq!(setup.fail(HOME, "dev@shop.example", None).await, Ok(()));
}

#[tokio::test]
async fn handshakes_are_counted_locally() {
    let setup = Setup::usual();
    assert!((0..600).all(|_| setup.limits.handshake(HOME).is_ok()));
    assert_eq!(setup.limits.handshake(HOME).unwrap_err().seconds(), 1);
    setup.clock.advance(Duration::from_millis(100));
    assert!(setup.limits.handshake(HOME).is_ok() && setup.limits.handshake(HOME).is_err());
    assert_eq!(setup.asked(), 0);
}

#[tokio::test]
async fn disabled_limit_makes_no_call() {
    let setup = Setup::with(Quotas::default());
    for _ in 0..1_000 {
        assert!(setup.limits.handshake(HOME).is_ok());
        assert!(setup.limits.room_of(HostId(7), HOME).await.is_ok());
        assert!(setup.limits.unknown_keys(HOME).is_ok() && setup.limits.image(HOME).is_ok());
        assert_eq!(setup.fail(HOME, "dev@shop.example", None).await, Ok(()));
    }
    assert_eq!((setup.mails(1_000).await, setup.asked()), (1_000, 0));
}

#[tokio::test]
async fn node_counts_locally_while_the_throttle_is_unavailable() {
    let setup = Setup::usual();
    setup.set_unavailable(true);
    assert_eq!(setup.mails(20).await, 5);
    assert_eq!(setup.asked(), 1);
    setup.clock.advance(Duration::from_secs(3));
    assert_eq!((setup.mails(20).await, setup.asked()), (0, 1));
    // The throttle is available again. It counts every e-mail from now on, and has counted none of the earlier ones.
    setup.set_unavailable(false);
    setup.clock.advance(Duration::from_secs(3));
    assert_eq!((setup.mails(20).await, setup.asked()), (5, 20));
}

#[tokio::test]
async fn clock_set_back_does_not_prolong_local_counting() {
    let setup = Setup::usual();
    setup.limits.fallback_until.store(setup.limits.now() + 1_000 * FALLBACK, Relaxed);
    assert_eq!((setup.mails(3).await, setup.asked()), (3, 3));
}

/// Suspends Redis and tests that only the first caller waits for the timeout of a call to Redis.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_redis_neither_blocks_calls_nor_lifts_limits() {
    let servers = Servers::of(Deployment::Redis7).await;
    let setup = Setup::usual();
    let shared = Arc::new(RedisThrottle::new(servers.node().await));
    let limits = Limits::new(setup.limits.quotas, shared, setup.clock.clone());
    assert!(limits.mail(HOME, "dev@shop.example").await.is_ok());
    servers.freeze();
    let began = std::time::Instant::now();
    let mut passing = 0;
    for _ in 0..100 {
        passing += usize::from(limits.mail(HOME, "dev@shop.example").await.is_ok());
    }
    assert_eq!(passing, 5);
    assert!(began.elapsed() < 3 * crate::backend::redis::CALL_TIMEOUT, "{:?}", began.elapsed());
    servers.thaw();
}
