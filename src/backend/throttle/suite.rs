//! Tests of the guarantees of the throttle, run on every driver. The tests at the end use several nodes.

use crate::backend::redis::testing::PT;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Kind, Quota, Throttle, Verdict, Who};
use crate::backend::embedded::throttle::MemoryThrottle;
use crate::backend::redis::Redis;
use crate::backend::redis::testing::{Kind as Deployment, Servers, on_every_redis};
use crate::backend::redis::throttle::RedisThrottle;
use crate::domain::HostId;
use crate::domain::clock::{Clock as _, ManualClock, SystemClock};

/// Span of the quotas in these tests. It is long enough that no key in Redis expires during a slow test.
const HOUR: Duration = Duration::from_secs(3_600);

/// Time in which a bucket gains one token at five tokens per hour.
const EACH: Duration = Duration::from_secs(720);

/// Generates one test per function and driver. Each test runs the function on that driver.
macro_rules! on_every_driver {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Setup::new(None)).await;
            })*
        }
        mod every_redis {
            use super::*;
            on_every_redis!(crate::backend::throttle::suite::Setup::on: $($name),*);
        }
    };
}

on_every_driver!(
    a_full_bucket_is_used_at_once_and_then_refilled_one_by_one,
    a_rejected_call_takes_no_token,
    clients_and_kinds_are_counted_separately,
    a_long_pause_fills_the_bucket_and_no_more,
    a_changed_quota_applies_at_once,
    a_refunded_token_can_be_taken_once,
);

on_every_redis!(crate::backend::throttle::suite::Setup::on:
    nodes_count_together,
    concurrent_calls_on_two_nodes_stay_within_the_quota,
    the_clock_of_redis_gives_the_same_result,
    a_clock_that_is_behind_prolongs_no_rejection,
    a_bucket_is_kept_until_it_is_full_under_a_digest,
);

struct Setup {
    servers: Option<Servers>,
    clock: Arc<ManualClock>,
}

impl Setup {
    fn new(servers: Option<Servers>) -> Self {
        Self { servers, clock: Arc::new(ManualClock::new(SystemClock.now())) }
    }

    async fn on<F: Future<Output = ()>>(kind: Deployment, test: impl FnOnce(Setup) -> F) {
        test(Self::new(Some(Servers::of(kind).await))).await;
    }

    async fn redis(&self) -> Redis {
        self.servers.as_ref().expect("a cluster").node().await
    }

    async fn node(&self) -> Arc<dyn Throttle> {
        match &self.servers {
            Some(servers) => Arc::new(RedisThrottle::new(servers.node().await).with_clock(self.clock.clone())),
            None => Arc::new(MemoryThrottle::new(self.clock.clone())),
        }
    }
}

fn a_client() -> Who {
    Who::address(IpAddr::from([192, 0, 2, 7]))
}

fn five() -> Quota {
    Quota::new(5, HOUR)
}

async fn take(node: &Arc<dyn Throttle>, who: &Who) -> Verdict {
    node.take(Kind::Mail, who, five()).await.unwrap()
}

/// Tries to take a token `tries` times. Returns how many attempts succeeded.
async fn passing(node: &Arc<dyn Throttle>, tries: usize) -> usize {
    let mut passing = 0;
    for _ in 0..tries {
        passing += usize::from(take(node, &a_client()).await.passes);
    }
    passing
}

async fn a_full_bucket_is_used_at_once_and_then_refilled_one_by_one(setup: Setup) {
    let node = setup.node().await;
    for left in (0..5).rev() {
        let next_in = if left == 0 { EACH } else { Duration::ZERO };
        assert_eq!(take(&node, &a_client()).await, Verdict { passes: true, next_in });
    }
    for _ in 0..3 {
        assert_eq!(take(&node, &a_client()).await, Verdict { passes: false, next_in: EACH });
        setup.clock.advance(EACH);
        assert_eq!(take(&node, &a_client()).await, Verdict { passes: true, next_in: EACH });
    }
    setup.clock.advance(2 * EACH);
    assert_eq!(passing(&node, 5).await, 2);
}

async fn a_rejected_call_takes_no_token(setup: Setup) {
    let node = setup.node().await;
    assert_eq!(passing(&node, 50).await, 5);
    setup.clock.advance(EACH - Duration::from_millis(1));
    for _ in 0..50 {
        let refused = take(&node, &a_client()).await;
        assert_eq!(refused, Verdict { passes: false, next_in: Duration::from_millis(1) });
    }
    setup.clock.advance(Duration::from_millis(1));
    assert_eq!(passing(&node, 2).await, 1);
}

async fn clients_and_kinds_are_counted_separately(setup: Setup) {
    let node = setup.node().await;
    assert_eq!(passing(&node, 6).await, 5);
    let neighbour = Who::address(IpAddr::from([192, 0, 2, 8]));
    for who in [neighbour, Who::host(HostId(7)), Who::account("dev@shop.example")] {
        assert!(take(&node, &who).await.passes, "{who}");
    }
    for kind in [Kind::Handshake, Kind::Room, Kind::LoginAddress, Kind::LoginAccount] {
        assert!(node.take(kind, &a_client(), five()).await.unwrap().passes, "{kind:?}");
    }
    assert_eq!(passing(&node, 1).await, 0);
}

async fn a_long_pause_fills_the_bucket_and_no_more(setup: Setup) {
    let node = setup.node().await;
    assert_eq!(passing(&node, 6).await, 5);
    setup.clock.advance(24 * HOUR);
    assert_eq!(passing(&node, 10).await, 5);
}

async fn a_changed_quota_applies_at_once(setup: Setup) {
    let node = setup.node().await;
    assert_eq!(passing(&node, 6).await, 5);
    let two = Quota::new(2, HOUR);
    let refused = node.take(Kind::Mail, &a_client(), two).await.unwrap();
    assert_eq!(refused, Verdict { passes: false, next_in: HOUR / 2 });
    setup.clock.advance(HOUR / 2);
    assert!(node.take(Kind::Mail, &a_client(), two).await.unwrap().passes);
}

async fn a_refunded_token_can_be_taken_once(setup: Setup) {
    let node = setup.node().await;
    let refund = async || node.refund(Kind::Mail, &a_client(), five()).await.unwrap();
    refund().await;
    assert_eq!(passing(&node, 6).await, 5, "a full bucket holds no more");
    for _ in 0..3 {
        refund().await;
    }
    assert_eq!(passing(&node, 6).await, 3);
    for _ in 0..9 {
        refund().await;
    }
    assert_eq!(passing(&node, 6).await, 5);
}

async fn nodes_count_together(setup: Setup) {
    let (one, other) = (setup.node().await, setup.node().await);
    assert_eq!(passing(&one, 3).await, 3);
    assert_eq!(passing(&other, 4).await, 2);
    assert_eq!(passing(&one, 1).await, 0);
    setup.clock.advance(EACH);
    assert_eq!((passing(&other, 1).await, passing(&one, 1).await), (1, 0));
}

async fn concurrent_calls_on_two_nodes_stay_within_the_quota(setup: Setup) {
    let nodes = [setup.node().await, setup.node().await];
    let who = a_client();
    let tries = (0..100).map(|at| take(&nodes[at % 2], &who));
    let verdicts = futures_util::future::join_all(tries).await;
    assert_eq!(verdicts.iter().filter(|verdict| verdict.passes).count(), 5);
}

async fn the_clock_of_redis_gives_the_same_result(setup: Setup) {
    let node: Arc<dyn Throttle> = Arc::new(RedisThrottle::new(setup.redis().await));
    assert_eq!(passing(&node, 7).await, 5);
    let next_in = take(&node, &a_client()).await.next_in;
    assert!(EACH - Duration::from_secs(60) < next_in && next_in <= EACH, "{next_in:?}");
    // With this rate, the next token is available before the next call.
    let quota = Quota::new(1_000_000, Duration::from_secs(1));
    for _ in 0..10 {
        assert!(node.take(Kind::Room, &a_client(), quota).await.unwrap().passes);
    }
}

async fn a_clock_that_is_behind_prolongs_no_rejection(setup: Setup) {
    let ahead = Arc::new(ManualClock::new(SystemClock.now()));
    ahead.advance(30 * 24 * HOUR);
    let before: Arc<dyn Throttle> = Arc::new(RedisThrottle::new(setup.redis().await).with_clock(ahead));
    assert_eq!(passing(&before, 6).await, 5);
    let node = setup.node().await;
    assert_eq!(take(&node, &a_client()).await, Verdict { passes: false, next_in: EACH });
    setup.clock.advance(EACH);
    assert_eq!(passing(&node, 2).await, 1);
}

async fn a_bucket_is_kept_until_it_is_full_under_a_digest(setup: Setup) {
    let (redis, node) = (setup.redis().await, setup.node().await);
    assert_eq!(passing(&node, 9).await, 5);
    let account = Who::account("dev@shop.example");
    node.take(Kind::LoginAccount, &account, five()).await.unwrap();
    let keys = redis.keys_with("limit").await;
    assert_eq!(keys, [format!("{PT}limit:login_account:{account}"), format!("{PT}limit:mail:192.0.2.7")]);
    for (key, span) in keys.iter().zip([EACH, HOUR]) {
        let kept = Duration::from_millis(redis.raw::<u64>("PTTL", &[key]).await);
        assert!(span - Duration::from_secs(60) < kept && kept <= span, "{key}: {kept:?}");
    }
}
