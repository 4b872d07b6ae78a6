//! Tests the presence of hosts while nodes and Redis are killed, frozen or stopped.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;

use crate::setup::Setup;
use crate::socket::{Event, SHOP, Socket};
use crate::statuses::Statuses;
use crate::{eventually, span};

/// Maximum time until the hosts of a crashed node are reported offline (SPEC 5).
const CRASHED: Duration = Duration::from_secs(20);

/// Maximum time until presence is correct after a frozen process has resumed.
const THAWED: Duration = Duration::from_secs(10);

/// Minimum uptime of a node before it declares another node dead.
const MIN_UPTIME: Duration = Duration::from_secs(16);

fn hosts() -> usize {
    span(300, 5_000).as_secs() as usize
}

/// Waits until the guest of the only room has the presence `online` in the room list of a node. Returns the elapsed
/// time.
async fn the_guest_is(setup: &Setup, node: usize, online: bool, within: Duration) -> Duration {
    let asked = Instant::now();
    eventually("the guest's status", within, async || {
        let (_, list) = setup.call(node, Method::GET, "/api/chat/chatrooms/", Value::Null).await;
        (list["results"][0]["guestOnline"] == online).then_some(())
    })
    .await;
    asked.elapsed()
}

/// Reads a socket in the background, which keeps it open.
fn keep(mut socket: Socket) {
    tokio::spawn(async move { while let Event::Frame(_) = socket.receive().await {} });
}

fn slowest(statuses: &Statuses, since: Instant) -> f64 {
    let gone = statuses.tabs.iter().filter_map(|tab| tab.gone_after(since)).max();
    gone.unwrap_or_default().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_of_a_killed_node_go_offline_in_time_and_those_who_reconnect_never_do() {
    let began = Instant::now();
    let mut statuses = Statuses::set("a_killed_nodes_hosts", hosts(), &[0], 1, &[]).await;
    tokio::time::sleep(MIN_UPTIME.saturating_sub(began.elapsed())).await;
    // Every fifth host reconnects immediately to another node. The remaining hosts do not reconnect.
    let elsewhere = statuses.setup.nodes[2].address;
    for (at, tab) in statuses.tabs.iter().enumerate() {
        *tab.home.lock() = (at % 5 == 0).then_some(elsewhere);
    }
    statuses.setup.nodes[0].kill();
    let killed = Instant::now();
    statuses.wait_for_statuses(CRASHED, |at| at % 5 == 0).await;
    for tab in statuses.tabs.iter().step_by(5) {
        assert_eq!(tab.gone_after(killed), None, "the host was online all the time");
    }
    statuses
        .finish(|statuses, figures| {
            figures.note("hosts", hosts());
            figures.note("gone after at most s", format!("{:.1}", slowest(statuses, killed)));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_was_frozen_for_sixteen_seconds_reports_correct_presence() {
    let began = Instant::now();
    let mut statuses = Statuses::set("a_node_that_was_frozen", hosts(), &[0, 2], 1, &[]).await;
    let room = statuses.setup.open_room().await;
    let (home, elsewhere) = (statuses.setup.nodes[0].address, statuses.setup.nodes[2].address);
    keep(Socket::open(home, &statuses.setup.guest_path(room), Some(SHOP)).await.expect("a guest comes"));
    the_guest_is(&statuses.setup, 1, true, THAWED).await;
    tokio::time::sleep(MIN_UPTIME.saturating_sub(began.elapsed())).await;
    let closes = async |setup: &Setup| setup.nodes[0].metric(&setup.http, "pintalk_closes_total").await;
    let closed_before = closes(&statuses.setup).await;
    statuses.setup.nodes[0].signal("-STOP");
    let frozen = Instant::now();
    tokio::time::sleep(Duration::from_secs(16)).await;
    the_guest_is(&statuses.setup, 1, false, CRASHED).await;
    // The host joins the room on another node. This join removes connections of the dead node from the room.
    keep(Socket::open(elsewhere, &statuses.setup.host_path(room), None).await.expect("the host comes"));
    statuses.setup.nodes[0].signal("-CONT");
    let thawed = Instant::now();
    // The hosts of the node that was declared dead become online again. They must remain online after all events in
    // flight have arrived.
    statuses.wait_for_statuses(THAWED, |_| true).await;
    let back = thawed.elapsed();
    let counted = the_guest_is(&statuses.setup, 1, true, THAWED).await;
    tokio::time::sleep(THAWED.saturating_sub(thawed.elapsed())).await;
    statuses.wait_for_statuses(Duration::from_secs(1), |_| true).await;
    assert_eq!(closes(&statuses.setup).await, closed_before, "its own pause must not count as silence of others");
    for node in 0..3 {
        statuses.new_guests_see_all_online(node).await;
    }
    for tab in statuses.tabs.iter().skip(1).step_by(2) {
        assert_eq!(tab.gone_after(frozen), None, "the host's node was never unavailable");
    }
    statuses
        .finish(|statuses, figures| {
            figures.note("reported offline", statuses.tabs.iter().filter_map(|tab| tab.gone_after(frozen)).count());
            figures.note("all back after s", format!("{:.1}", back.as_secs_f64()));
            figures.note("guest counted after s", format!("{:.1}", (back + counted).as_secs_f64()));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_host_goes_offline_because_redis_was_frozen_for_twenty_seconds() {
    let began = Instant::now();
    let mut statuses = Statuses::set("redis_stood_still", hosts(), &[0, 1, 2], 1, &[]).await;
    tokio::time::sleep(MIN_UPTIME.saturating_sub(began.elapsed())).await;
    let frozen = Instant::now();
    statuses.setup.redis().freeze();
    tokio::time::sleep(Duration::from_secs(20)).await;
    statuses.setup.redis().thaw();
    statuses.setup.readiness_is(200, Duration::from_secs(15)).await;
    // By the end of this wait, every node could have declared another node dead again.
    tokio::time::sleep(MIN_UPTIME).await;
    for node in 0..3 {
        statuses.new_guests_see_all_online(node).await;
    }
    assert_eq!(slowest(&statuses, frozen), 0.0, "a guest was notified that a host is offline");
    statuses.finish(|_, figures| figures.note("hosts", hosts())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_of_a_draining_node_stay_online_until_they_had_time_to_reconnect() {
    let began = Instant::now();
    let flags = ["--drain-delay", "1s", "--drain", "8s"];
    let mut statuses = Statuses::set("hosts_of_a_node_that_drains", hosts(), &[0], 1, &flags).await;
    tokio::time::sleep(MIN_UPTIME.saturating_sub(began.elapsed())).await;
    let elsewhere = statuses.setup.nodes[2].address;
    for (at, tab) in statuses.tabs.iter().enumerate() {
        *tab.home.lock() = (at % 5 > 0).then_some(elsewhere);
    }
    statuses.setup.nodes[0].signal("-TERM");
    let signalled = Instant::now();
    let node = parking_lot::Mutex::new(&mut statuses.setup.nodes[0]);
    let ended = async || node.lock().has_ended();
    let code = eventually("the node ends", Duration::from_secs(20), ended).await;
    let ended = signalled.elapsed();
    assert_eq!(code, Some(0));
    // The sockets of all hosts are closed by now. Hosts that do not reconnect are reported offline within [`CRASHED`].
    statuses.wait_for_statuses(CRASHED, |at| at % 5 > 0).await;
    for (at, tab) in statuses.tabs.iter().enumerate().filter(|(at, _)| at % 5 > 0) {
        assert_eq!(tab.gone_after(signalled), None, "{at} was online all the time");
    }
    let first = statuses.tabs.iter().filter_map(|tab| tab.gone_after(signalled)).min().unwrap_or_default();
    assert!(first >= Duration::from_secs(8), "a host had only {first:?}");
    statuses
        .finish(|statuses, figures| {
            figures.note("ended after s", format!("{:.1}", ended.as_secs_f64()));
            figures.note("gone after s", format!("{:.1}..{:.1}", first.as_secs_f64(), slowest(statuses, signalled)));
        })
        .await;
}
