//! Tests of a failover in which recent writes are lost. They check that the nodes write the entries of their hosts
//! again.

use crate::backend::redis::testing::PT;
use fred::util::redis_keyslot;

use super::*;
use crate::backend::redis::testing::on_redis;

on_redis!(redis_cluster, Cluster, crate::backend::presence::suite::Setup::on:
    a_failover_of_the_server_of_the_nodes_changes_no_status_and_loses_no_host,
    a_failover_of_the_server_of_the_leases_changes_no_status_and_loses_no_host,
);
on_redis!(redis_sentinel, Sentinel, crate::backend::presence::suite::Setup::on:
    a_failover_of_the_server_of_the_leases_changes_no_status_and_loses_no_host,
);

/// Tests a failover of the master that stores the key returned by `key`. Recent writes are lost.
async fn fail_over(mut setup: Setup, key: impl Fn(HostUuid) -> String) {
    let nodes = [setup.node().await, setup.node().await];
    let hosts: Vec<HostUuid> = (0..30).map(|_| a_host()).collect();
    for (at, host) in hosts.iter().enumerate() {
        nodes[at % 2].enter(*host).await;
    }
    for node in &nodes {
        node.make_uninterrupted().await;
        node.upkeep().keep().await.unwrap();
    }
    let before: Vec<String> = nodes.iter().map(|node| node.redis().incarnation().unwrap()).collect();
    let (slot, servers) = (redis_keyslot(key(hosts[0]).as_bytes()), setup.servers.as_mut().unwrap());
    // Sentinels do not promote a replica that has never synchronised.
    nodes[0].redis().wait_for_replicas(servers, slot).await;
    nodes[0].enter(a_host()).await;
    servers.fail_over(slot);
    let began = std::time::Instant::now();
    for (node, before) in nodes.iter().zip(before) {
        // A running node also calls `keep` periodically, even if a call fails.
        loop {
            let beat = node.redis().heartbeat().await.is_ok() && node.upkeep().keep().await.is_ok();
            if beat && node.redis().incarnation().is_ok_and(|name| name != before) {
                break;
            }
            assert!(began.elapsed() < WAIT_LIMIT, "it has not begun anew");
        }
    }
    for host in &hosts {
        assert!(nodes[0].is_online(*host).await);
    }
    let received = nodes[1].recorder.received.lock().clone();
    assert!(!received.iter().any(|event| matches!(event, Event::Offline(_))), "{received:?}");
    // Calls to `enter` and `leave` after the failover still take effect.
    for (at, host) in hosts.iter().enumerate() {
        nodes[at % 2].leave(*host).await;
        assert!(!nodes[0].is_online(*host).await);
    }
}

async fn a_failover_of_the_server_of_the_nodes_changes_no_status_and_loses_no_host(setup: Setup) {
    fail_over(setup, |host| format!("{PT}{{{host}}}:presence")).await;
}

async fn a_failover_of_the_server_of_the_leases_changes_no_status_and_loses_no_host(setup: Setup) {
    fail_over(setup, |_| format!("{PT}nodes")).await;
}
