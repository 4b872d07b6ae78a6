//! Tests of the guarantees of membership, run on every Redis deployment.

use super::*;
use crate::backend::redis::Redis;
use crate::backend::redis::testing::{Kind, Servers, on_every_redis};

on_every_redis!(
    crate::backend::membership::suite::on:
    a_node_has_one_lease_and_keeps_its_incarnation,
    a_node_without_a_lease_has_no_incarnation,
    a_node_that_signs_off_is_dead_at_once,
);

async fn on<F: Future<Output = ()>>(kind: Kind, test: impl FnOnce(Servers) -> F) {
    test(Servers::of(kind).await).await;
}

fn port(redis: &Redis) -> &dyn Membership {
    redis
}

async fn a_node_has_one_lease_and_keeps_its_incarnation(servers: Servers) {
    let (one, other) = (servers.unknown_node().await, servers.unknown_node().await);
    port(&one).renew().await.unwrap();
    let incarnation = port(&one).incarnation().unwrap();
    assert_eq!(port(&other).live_leases().await, Ok(1));
    port(&other).renew().await.unwrap();
    port(&one).renew().await.unwrap();
    assert_eq!(port(&one).incarnation(), Ok(incarnation));
    assert_eq!(port(&one).live_leases().await, Ok(2));
}

async fn a_node_without_a_lease_has_no_incarnation(servers: Servers) {
    let node = servers.unknown_node().await;
    assert!(port(&node).incarnation().is_err());
    assert_eq!(port(&node).live_leases().await, Ok(0));
    port(&node).sign_off(Duration::ZERO).await.unwrap();
}

async fn a_node_that_signs_off_is_dead_at_once(servers: Servers) {
    let (leaving, other) = (servers.unknown_node().await, servers.unknown_node().await);
    for node in [&leaving, &other] {
        port(node).renew().await.unwrap();
    }
    port(&leaving).sign_off(Duration::ZERO).await.unwrap();
    assert_eq!(port(&other).live_leases().await, Ok(1));
}
