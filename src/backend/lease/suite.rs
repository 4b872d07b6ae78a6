//! Tests of the lease's guarantees, run on every driver. Tests with several nodes run on every Redis deployment.

use super::*;
use crate::backend::embedded::lease::SoleLease;
use crate::backend::redis::Redis;
use crate::backend::redis::lease::RedisLease;
use crate::backend::redis::testing::PT;
use crate::backend::redis::testing::{Kind, Servers, on_every_redis};

on_every_redis!(
    crate::backend::lease::suite::on:
    one_node_at_a_time_has_the_lease,
    a_released_lease_is_free_at_once_and_only_its_holder_releases_it,
    a_lease_that_is_not_renewed_expires,
);

#[tokio::test]
async fn a_single_node_always_has_the_lease() {
    let lease = SoleLease;
    assert_eq!(lease.hold().await, Ok(true));
    lease.release().await.unwrap();
    assert_eq!(lease.hold().await, Ok(true));
}

async fn on<F: Future<Output = ()>>(kind: Kind, test: impl FnOnce(Servers) -> F) {
    test(Servers::of(kind).await).await;
}

async fn a_node(servers: &Servers) -> (Redis, RedisLease) {
    let redis = servers.node().await;
    let lease = RedisLease::new(redis.clone());
    (redis, lease)
}

/// Returns the remaining time of the lease, in ms.
async fn ttl(redis: &Redis) -> i64 {
    redis.raw("PTTL", &[&*format!("{PT}lease:leader")]).await
}

async fn one_node_at_a_time_has_the_lease(servers: Servers) {
    let ((redis, one), (_, other)) = (a_node(&servers).await, a_node(&servers).await);
    assert_eq!((one.hold().await, other.hold().await), (Ok(true), Ok(false)));
    let _: i64 = redis.raw("PEXPIRE", &[&*format!("{PT}lease:leader"), "5000"]).await;
    // A failed attempt does not extend the lease, but a renewal by the holder does.
    assert_eq!(other.hold().await, Ok(false));
    assert!(ttl(&redis).await <= 5_000);
    assert_eq!(one.hold().await, Ok(true));
    let left = ttl(&redis).await;
    assert!(left > 10_000 && left <= TTL.as_millis() as i64, "{left}");
}

async fn a_released_lease_is_free_at_once_and_only_its_holder_releases_it(servers: Servers) {
    let ((_, one), (_, other)) = (a_node(&servers).await, a_node(&servers).await);
    assert_eq!(one.hold().await, Ok(true));
    other.release().await.unwrap();
    assert_eq!(other.hold().await, Ok(false));
    for _ in 0..2 {
        one.release().await.unwrap();
    }
    assert_eq!((other.hold().await, one.hold().await), (Ok(true), Ok(false)));
}

async fn a_lease_that_is_not_renewed_expires(servers: Servers) {
    let ((redis, one), (_, other)) = (a_node(&servers).await, a_node(&servers).await);
    assert_eq!(one.hold().await, Ok(true));
    // This command makes the lease expire at once.
    let _: i64 = redis.raw("PEXPIRE", &[&*format!("{PT}lease:leader"), "0"]).await;
    assert_eq!((other.hold().await, one.hold().await), (Ok(true), Ok(false)));
}
