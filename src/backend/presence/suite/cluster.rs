//! Tests with several nodes on one Redis: hosts with sockets on several nodes, greetings, reconnected nodes and dead
//! nodes.

use super::*;
use crate::backend::redis::testing::PT;

on_every_redis!(crate::backend::presence::suite::Setup::on:
    a_host_with_sockets_on_two_nodes_goes_offline_with_the_last,
    a_greeting_reaches_every_node,
    a_later_node_reads_which_hosts_are_online,
    the_set_of_a_node_contains_its_hosts,
    hosts_of_an_unlisted_node_are_found_and_the_node_counts_as_dead,
    a_disconnected_listener_is_notified_and_receives_again,
    the_hosts_of_a_dead_node_go_offline_unless_they_are_elsewhere,
    another_node_completes_an_interrupted_cleanup,
    a_node_that_was_treated_as_dead_writes_its_hosts_again,
    a_node_that_redis_may_have_lost_writes_its_hosts_again_without_a_change_of_status,
    a_host_that_leaves_under_a_new_incarnation_stays_offline,
    a_node_with_an_interrupted_lease_treats_no_node_as_dead,
    no_node_is_treated_as_dead_after_redis_stalled,
    a_host_of_a_dead_unlisted_node_is_offline_when_queried,
    nothing_is_written_under_an_expired_lease,
);

async fn a_host_with_sockets_on_two_nodes_goes_offline_with_the_last(setup: Setup) {
    let (one, other) = (setup.node().await, setup.node().await);
    let host = a_host();
    one.enter(host).await;
    other.enter(host).await;
    one.leave(host).await;
    assert!(one.is_online(host).await && other.is_online(host).await);
    other.leave(host).await;
    assert!(!one.is_online(host).await && !other.is_online(host).await);
    for node in [&one, &other] {
        assert_eq!(node.received().await, [Event::Online(host), Event::Offline(host)]);
    }
}

async fn hosts_of_an_unlisted_node_are_found_and_the_node_counts_as_dead(setup: Setup) {
    let node = setup.node().await;
    node.enter(a_host()).await;
    assert_eq!(node.upkeep().adopt_orphans(true).await, Ok(0), "its own node is in the list");
    // This state can follow a failover: Redis has lost the list of nodes, but has kept the sets of hosts.
    for orphan in ["one", "other"] {
        let set = format!("{PT}node:{orphan}:hosts");
        let _: i64 = node.redis().raw("SADD", &[&set, a_host().as_str()]).await;
    }
    for (adopt, found) in [(false, 2), (true, 2), (true, 0), (false, 0)] {
        assert_eq!(node.upkeep().adopt_orphans(adopt).await, Ok(found));
    }
    let lease: String = node.redis().raw("ZSCORE", &[&*format!("{PT}nodes"), "one"]).await;
    assert_eq!(lease, "0");
}

async fn a_greeting_reaches_every_node(setup: Setup) {
    let (one, other) = (setup.node().await, setup.node().await);
    let host = a_host();
    one.presence.greet(host, "{}".into()).await.unwrap();
    other.recorder.until(&Event::Greeting(host, "{}".into()), 1).await;
    one.recorder.until(&Event::Greeting(host, "{}".into()), 1).await;
}

async fn a_later_node_reads_which_hosts_are_online(setup: Setup) {
    let one = setup.node().await;
    let host = a_host();
    one.enter(host).await;
    let third = setup.node().await;
    assert!(third.is_online(host).await);
    assert_eq!(third.received().await, []);
}

async fn the_set_of_a_node_contains_its_hosts(setup: Setup) {
    let (one, other) = (setup.node().await, setup.node().await);
    let (host, gone) = (a_host(), a_host());
    for host in [host, gone] {
        one.enter(host).await;
        other.enter(host).await;
    }
    one.leave(gone).await;
    let set = format!("{PT}node:{}:hosts", one.redis().incarnation().unwrap());
    assert_eq!(one.redis().raw::<Vec<String>>("SMEMBERS", &[&set]).await, [host.to_string()]);
}

async fn a_disconnected_listener_is_notified_and_receives_again(setup: Setup) {
    let (one, other) = (setup.node().await, setup.node().await);
    let host = a_host();
    one.redis().kill_listeners().await;
    one.enter(host).await;
    for node in [&one, &other] {
        node.recorder.until(&Event::Missed, 1).await;
        assert!(node.is_online(host).await);
    }
    one.leave(host).await;
    for node in [&one, &other] {
        assert!(node.received().await.contains(&Event::Offline(host)));
    }
}

async fn the_hosts_of_a_dead_node_go_offline_unless_they_are_elsewhere(setup: Setup) {
    let (dying, other) = (setup.node().await, setup.node().await);
    let hosts: Vec<_> = (0..700).map(|_| a_host()).collect();
    for host in &hosts {
        dying.enter(*host).await;
    }
    other.enter(hosts[0]).await;
    dying.expire_lease().await;
    other.make_uninterrupted().await;
    other.upkeep().keep().await.unwrap();
    let received = other.received().await;
    assert!(!received.contains(&Event::Offline(hosts[0])) && other.is_online(hosts[0]).await);
    for host in &hosts[1..] {
        assert_eq!(received.iter().filter(|event| **event == Event::Offline(*host)).count(), 1);
    }
    assert_eq!(other.keys_of(&dying).await, Vec::<String>::new());
    let name = dying.redis().incarnation().unwrap();
    assert_eq!(other.redis().raw::<Option<String>>("ZSCORE", &[&*format!("{PT}nodes"), &name]).await, None);
}

async fn another_node_completes_an_interrupted_cleanup(setup: Setup) {
    let (dying, other) = (setup.node().await, setup.node().await);
    let hosts: Vec<_> = (0..20).map(|_| a_host()).collect();
    for host in &hosts {
        dying.enter(*host).await;
    }
    let name = dying.redis().incarnation().unwrap();
    dying.expire_lease().await;
    // This state can follow the death of a node during a removal. The node had removed the entries of two hosts from
    // their hashes, but only one of these hosts from the dead node's set.
    let claim = format!("{PT}node:{name}:claim");
    other.redis().raw::<String>("SET", &[&claim, "another", "PX", "700"]).await;
    for host in &hosts[..2] {
        let key = format!("{PT}{{{host}}}:presence");
        other.redis().raw::<i64>("HDEL", &[&key, &format!("n:{name}")]).await;
    }
    other.redis().raw::<i64>("SREM", &[&format!("{PT}node:{name}:hosts"), hosts[0].as_str()]).await;
    other.make_uninterrupted().await;
    other.upkeep().keep().await.unwrap();
    assert!(!other.received().await.contains(&Event::Offline(hosts[5])), "another node holds the claim");
    let began = std::time::Instant::now();
    while !other.keys_of(&dying).await.is_empty() && began.elapsed() < WAIT_LIMIT {
        other.make_uninterrupted().await;
        other.upkeep().keep().await.unwrap();
    }
    let received = other.received().await;
    for host in &hosts[2..] {
        assert_eq!(received.iter().filter(|event| **event == Event::Offline(*host)).count(), 1);
    }
    assert_eq!(other.keys_of(&dying).await, Vec::<String>::new());
}

async fn a_node_that_was_treated_as_dead_writes_its_hosts_again(setup: Setup) {
    let (frozen, other) = (setup.node().await, setup.node().await);
    let (host, left) = (a_host(), a_host());
    frozen.enter(host).await;
    frozen.enter(left).await;
    frozen.renew_and_keep().await;
    frozen.expire_lease().await;
    other.make_uninterrupted().await;
    other.upkeep().keep().await.unwrap();
    assert!(!other.is_online(host).await);
    let before = frozen.redis().incarnation().unwrap();
    frozen.renew_and_keep().await;
    assert_ne!(frozen.redis().incarnation().unwrap(), before);
    assert!(other.is_online(host).await);
    frozen.leave(left).await;
    let (online, offline) = (Event::Online(host), Event::Offline(host));
    let mut received = other.received().await;
    received.retain(|event| *event == online || *event == offline);
    assert_eq!(received, [online.clone(), offline, online]);
    assert!(!other.is_online(left).await);
    // When the lease of the node expires again, the entries of its new incarnation are removed too.
    frozen.expire_lease().await;
    other.make_uninterrupted().await;
    other.upkeep().keep().await.unwrap();
    assert!(!other.is_online(host).await);
}

async fn a_node_that_redis_may_have_lost_writes_its_hosts_again_without_a_change_of_status(setup: Setup) {
    let (one, other) = (setup.node().await, setup.node().await);
    let hosts: Vec<_> = (0..600).map(|_| a_host()).collect();
    for host in &hosts {
        one.enter(*host).await;
    }
    one.renew_and_keep().await;
    for round in 0..2 {
        let before = one.redis().incarnation().unwrap();
        if round == 1 {
            // The server has lost the entries of some hosts.
            for host in &hosts[..10] {
                one.redis().raw::<i64>("DEL", &[&format!("{PT}{{{host}}}:presence")]).await;
            }
        }
        one.redis().lose_lease();
        one.renew_and_keep().await;
        let after = one.redis().incarnation().unwrap();
        assert_ne!(after, before);
        let sets = one.redis().keys_with(&format!("node:{}", one.redis().node())).await;
        assert_eq!(sets, [format!("{PT}node:{after}:hosts")]);
        assert_eq!(one.redis().raw::<usize>("SCARD", &[&sets[0]]).await, hosts.len());
        for host in hosts.iter().step_by(97).chain(&hosts[..10]) {
            assert!(other.is_online(*host).await);
            let fields: Vec<String> = one.redis().raw("HKEYS", &[&format!("{PT}{{{host}}}:presence")]).await;
            assert_eq!(fields.len(), 2, "{fields:?}");
        }
    }
    let received = other.received().await;
    assert_eq!(received.iter().filter(|event| matches!(event, Event::Offline(_))).count(), 0);
    assert_eq!(received.len(), hosts.len() + 10);
}

async fn a_host_that_leaves_under_a_new_incarnation_stays_offline(setup: Setup) {
    let (one, other) = (setup.node().await, setup.node().await);
    let host = a_host();
    one.enter(host).await;
    one.renew_and_keep().await;
    one.redis().lose_lease();
    one.redis().heartbeat().await.unwrap();
    // The host leaves before the node has written an entry with its new incarnation.
    one.leave(host).await;
    assert!(!other.is_online(host).await);
    one.upkeep().keep().await.unwrap();
    assert_eq!(other.received().await, [Event::Online(host), Event::Offline(host)]);
    assert_eq!(one.keys_of(&one).await, Vec::<String>::new());
}

async fn a_node_with_an_interrupted_lease_treats_no_node_as_dead(setup: Setup) {
    let (dying, young) = (setup.node().await, setup.node().await);
    let host = a_host();
    dying.enter(host).await;
    dying.expire_lease().await;
    for fault in ["it is young", "its lease was lost"] {
        if fault != "it is young" {
            young.make_uninterrupted().await;
            young.redis().lose_lease();
        }
        assert!(young.is_online(host).await, "{fault}");
        young.upkeep().keep().await.unwrap();
        assert!(young.is_online(host).await, "{fault}");
    }
    assert_eq!(young.received().await, [Event::Online(host)]);
}

async fn no_node_is_treated_as_dead_after_redis_stalled(setup: Setup) {
    let nodes = [setup.node().await, setup.node().await];
    let hosts = [a_host(), a_host()];
    for (node, host) in nodes.iter().zip(hosts) {
        node.enter(host).await;
        node.make_uninterrupted().await;
        node.upkeep().keep().await.unwrap();
    }
    // All leases expire at the same time.
    for node in &nodes {
        node.expire_lease().await;
    }
    for _ in 0..2 {
        for node in &nodes {
            node.renew_and_keep().await;
            for host in hosts {
                assert!(node.is_online(host).await);
            }
        }
    }
    for node in &nodes {
        assert_eq!(node.received().await, hosts.map(Event::Online));
    }
}

async fn a_host_of_a_dead_unlisted_node_is_offline_when_queried(setup: Setup) {
    let (dying, other) = (setup.node().await, setup.node().await);
    let host = a_host();
    dying.enter(host).await;
    let name = dying.redis().incarnation().unwrap();
    other.redis().raw::<i64>("DEL", &[&format!("{PT}node:{name}:hosts")]).await;
    dying.expire_lease().await;
    other.make_uninterrupted().await;
    other.upkeep().keep().await.unwrap();
    other.make_uninterrupted().await;
    assert!(!other.is_online(host).await);
    assert_eq!(other.received().await, [Event::Online(host), Event::Offline(host)]);
}

async fn nothing_is_written_under_an_expired_lease(setup: Setup) {
    let Some(servers) = &setup.servers else { panic!("a cluster") };
    let redis = servers.unknown_node().await;
    let presence = RedisPresence::new(redis.clone());
    let host = a_host();
    assert!(presence.enter(host).await.is_err());
    // The node writes the entry of the host after it has acquired a lease.
    redis.heartbeat().await.unwrap();
    presence.keep().await.unwrap();
    assert!(presence.status(host).await.unwrap().online);
}
