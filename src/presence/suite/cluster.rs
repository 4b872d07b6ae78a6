//! What many nodes on one Redis need: hosts on several, greetings to all, listeners that come back.

use super::*;

on_every_redis!(crate::presence::suite::Stage::on:
    a_host_with_sockets_on_two_nodes_goes_with_the_last,
    a_greeting_reaches_every_node,
    a_node_that_comes_later_knows_who_is_online,
    a_node_says_which_hosts_to_look_after_when_it_dies,
    hosts_of_a_node_that_is_in_no_list_are_found_and_it_is_dead,
    a_listener_that_was_cut_off_is_told_and_hears_again,
);

async fn a_host_with_sockets_on_two_nodes_goes_with_the_last(stage: Stage) {
    let (one, other) = (stage.node().await, stage.node().await);
    let host = a_host();
    one.enter(host).await;
    other.enter(host).await;
    one.leave(host).await;
    assert!(one.is_online(host).await && other.is_online(host).await);
    other.leave(host).await;
    assert!(!one.is_online(host).await && !other.is_online(host).await);
    for node in [&one, &other] {
        assert_eq!(node.heard().await, [Heard::Online(host), Heard::Offline(host)]);
    }
}

async fn hosts_of_a_node_that_is_in_no_list_are_found_and_it_is_dead(stage: Stage) {
    let node = stage.node().await;
    node.enter(a_host()).await;
    assert_eq!(node.presence.adopt_orphans(true).await, Ok(0), "its own node is in the list");
    // As after a failover that forgot the list, and not the sets.
    for orphan in ["one", "other"] {
        let set = format!("pt:node:{orphan}:hosts");
        let _: i64 = node.redis().raw("SADD", &[&set, a_host().as_str()]).await;
    }
    for (adopt, found) in [(false, 2), (true, 2), (true, 0), (false, 0)] {
        assert_eq!(node.presence.adopt_orphans(adopt).await, Ok(found));
    }
    let lease: String = node.redis().raw("ZSCORE", &["pt:nodes", "one"]).await;
    assert_eq!(lease, "0");
}

async fn a_greeting_reaches_every_node(stage: Stage) {
    let (one, other) = (stage.node().await, stage.node().await);
    let host = a_host();
    one.presence.greet(host, "{}".into()).await.unwrap();
    other.ear.until(&Heard::Greeting(host, "{}".into()), 1).await;
    one.ear.until(&Heard::Greeting(host, "{}".into()), 1).await;
}

async fn a_node_that_comes_later_knows_who_is_online(stage: Stage) {
    let one = stage.node().await;
    let host = a_host();
    one.enter(host).await;
    let third = stage.node().await;
    assert!(third.is_online(host).await);
    assert_eq!(third.heard().await, []);
}

async fn a_node_says_which_hosts_to_look_after_when_it_dies(stage: Stage) {
    let (one, other) = (stage.node().await, stage.node().await);
    let (host, gone) = (a_host(), a_host());
    for host in [host, gone] {
        one.enter(host).await;
        other.enter(host).await;
    }
    one.leave(gone).await;
    let set = format!("pt:node:{}:hosts", one.redis().node());
    assert_eq!(one.redis().raw::<Vec<String>>("SMEMBERS", &[&set]).await, [host.to_string()]);
}

async fn a_listener_that_was_cut_off_is_told_and_hears_again(stage: Stage) {
    let (one, other) = (stage.node().await, stage.node().await);
    let host = a_host();
    one.redis().kill_listeners().await;
    one.enter(host).await;
    for node in [&one, &other] {
        node.ear.until(&Heard::Missed, 1).await;
        assert!(node.is_online(host).await);
    }
    one.leave(host).await;
    for node in [&one, &other] {
        assert!(node.heard().await.contains(&Heard::Offline(host)));
    }
}
