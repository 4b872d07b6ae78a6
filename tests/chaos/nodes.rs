//! Tests nodes that are killed, or that are frozen and resumed.

use std::time::{Duration, Instant};

use crate::client::Manner;
use crate::setup::{Plan, Setup};
use crate::span;

/// Maximum time for which the partitions of a dead node are not archived.
const TAKEN_OVER: Duration = Duration::from_secs(30);

/// Returns the time of the newest message of each room in the database. This time must never decrease.
async fn latest(setup: &Setup) -> Vec<Option<chrono::DateTime<chrono::Utc>>> {
    let mut all = Vec::new();
    for room in &setup.rooms {
        all.push(setup.store.rooms().get(room.id).await.expect("SQL").expect("a room").latest_msg_at);
    }
    all
}

/// Waits until the database contains all messages that clients have received so far. Returns the time from `since`
/// until then.
async fn archived(setup: &Setup, since: Instant) -> Duration {
    let mut before = latest(setup).await;
    let mut heads: Vec<u64> = Vec::new();
    for room in 0..setup.rooms.len() {
        let numbers = setup.ledger.each(|record| if record.room == room { record.last() } else { 0 });
        heads.push(numbers.into_iter().max().unwrap_or_default());
    }
    let until = Instant::now() + TAKEN_OVER;
    loop {
        let now = latest(setup).await;
        assert!(before.iter().zip(&now).all(|(before, now)| before <= now), "latestMsg went back");
        before = now;
        let mut behind = 0;
        for (room, head) in heads.iter().enumerate() {
            let stored = setup.store.messages().before(setup.rooms[room].id, None, 1).await.expect("SQL");
            behind += usize::from(stored.first().map_or(0, |message| message.seq) < *head);
        }
        if behind == 0 {
            return since.elapsed();
        }
        assert!(Instant::now() < until, "{behind} rooms are not archived any more");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_killed_in_traffic() {
    let mut setup = Setup::set("a_node_is_killed_in_traffic", Plan::default()).await;
    setup.nodes[0].kill();
    let killed = Instant::now();
    setup.open_nodes.lock().remove(0);
    let whole = setup.all_acknowledged_since(killed + Duration::from_millis(100), Duration::from_secs(10)).await;
    let first_archived = archived(&setup, killed).await;
    // The first node is restarted. A different node is then killed.
    setup.nodes[0].start_again();
    let first = setup.nodes[0].address;
    setup.nodes[0].ready(&setup.http).await;
    setup.open_nodes.lock().push(first);
    setup.nodes[1].kill();
    let killed = Instant::now();
    let second = setup.nodes[1].address;
    setup.open_nodes.lock().retain(|address| *address != second);
    // At least one of the killed nodes archived partitions, so the longer time includes a takeover.
    let archived = first_archived.max(archived(&setup, killed).await);
    tokio::time::sleep(span(3, 30)).await;
    setup
        .finish(|setup, figures| {
            figures.whole = Some(whole.as_secs_f64());
            figures.note("archived by others after s", format!("{:.1}", archived.as_secs_f64()));
            figures.note("broken sockets", setup.ledger.closes(1006));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_frozen_and_resumed() {
    let manner = Manner { ack_timeout: Some(Duration::from_secs(4)), ..Manner::default() };
    let setup = Setup::set("a_node_is_frozen_and_resumed", Plan { manner, ..Plan::default() }).await;
    setup.nodes[0].signal("-STOP");
    let frozen = Instant::now();
    let address = setup.open_nodes.lock().remove(0);
    let whole = setup.all_acknowledged_since(frozen + Duration::from_millis(100), Duration::from_secs(15)).await;
    let archived = archived(&setup, frozen).await;
    tokio::time::sleep(span(20, 20).saturating_sub(frozen.elapsed())).await;
    setup.nodes[0].signal("-CONT");
    setup.open_nodes.lock().push(address);
    setup.nodes[0].ready(&setup.http).await;
    tokio::time::sleep(span(3, 30)).await;
    setup
        .finish(|setup, figures| {
            figures.whole = Some(whole.as_secs_f64());
            figures.note("archived by others after s", format!("{:.1}", archived.as_secs_f64()));
            figures.note("broken sockets", setup.ledger.closes(1006));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_single_node_is_killed() {
    let plan = Plan { redis: None, nodes: 1, ..Plan::default() };
    let mut setup = Setup::set("the_single_node_is_killed", plan).await;
    let (mut whole, kills) = (Duration::ZERO, span(3, 20).as_secs());
    for _ in 0..kills {
        setup.nodes[0].kill();
        setup.nodes[0].start_again();
        let started = Instant::now();
        setup.nodes[0].ready(&setup.http).await;
        whole = whole.max(setup.all_acknowledged_since(started, Duration::from_secs(10)).await);
        tokio::time::sleep(Duration::from_millis(300 + setup.rng.below(1_500))).await;
    }
    setup
        .finish(|_, figures| {
            figures.whole = Some(whole.as_secs_f64());
            figures.note("kills", kills);
        })
        .await;
}
