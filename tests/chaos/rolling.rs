//! One node after another is told to end, behind a balancer, while people talk.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::balancer::{Haproxy, Nginx};
use crate::span;
use crate::stage::{Plan, Stage};

async fn roll(case: &str, before: impl FnOnce(&[SocketAddr]) -> SocketAddr) {
    let (delay, drain) = (span(2, 5), span(5, 20));
    let seconds = |span: Duration| format!("{}s", span.as_secs());
    let flags = ["--trusted-proxies", "127.0.0.1", "--drain-delay", &seconds(delay), "--drain", &seconds(drain)];
    let plan = Plan { flags: flags.map(str::to_owned).to_vec(), rooms: 0, guests: 3, ..Plan::default() };
    let mut stage = Stage::set_empty(case, &plan).await;
    let nodes: Vec<SocketAddr> = stage.nodes.iter().map(|node| node.address).collect();
    *stage.open_nodes.lock() = vec![before(&nodes)];
    stage.fill(10, &plan).await;

    let (mut slowest, mut spread): (Duration, Vec<f64>) = (Duration::ZERO, Vec::new());
    let rolling = Instant::now();
    for at in 0..stage.nodes.len() {
        let sent_away = stage.ledger.closes(1012);
        stage.nodes[at].signal("-TERM");
        let told = Instant::now();
        // When sockets go, in tenths of the window.
        let mut gone: Vec<Duration> = Vec::new();
        let code = loop {
            let now = stage.ledger.closes(1012) - sent_away;
            gone.resize(now.max(gone.len()), told.elapsed());
            if let Some(code) = stage.nodes[at].has_ended() {
                break code;
            }
            assert!(told.elapsed() < delay + drain * 2 + Duration::from_secs(10), "a node does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(code, Some(0), "a node that drained ends in order");
        slowest = slowest.max(told.elapsed());
        if let (Some(first), Some(last), true) = (gone.first(), gone.last(), gone.len() > 4) {
            spread.push((*last - *first).as_secs_f64() / drain.as_secs_f64());
        }
        stage.nodes[at].start_again();
        stage.nodes[at].ready(&stage.http).await;
        // The balancer looks twice a second.
        stage.all_acknowledged_since(Instant::now(), Duration::from_secs(10)).await;
    }
    let rolled = rolling.elapsed();
    let healed = Instant::now();
    let whole = stage.all_acknowledged_since(healed, Duration::from_secs(5)).await;
    let hints: Vec<u64> = stage.ledger.each(|record| record.hints.clone()).into_iter().flatten().collect();
    let (least, most) =
        (hints.iter().min().copied().unwrap_or_default(), hints.iter().max().copied().unwrap_or_default());
    assert!(hints.len() >= 20, "only {} were sent away", hints.len());
    assert!(most - least > 2_000, "{least} to {most} ms is not random");
    assert!(spread.iter().all(|share| *share > 0.5), "sockets were closed within {spread:?} of the window");
    stage
        .finish(|stage, figures| {
            figures.whole = Some(whole.as_secs_f64());
            figures.note("1012", stage.ledger.closes(1012));
            figures.note("broken sockets", stage.ledger.closes(1006));
            figures.note("hints ms", format!("{least}..{most}"));
            figures.note("rolled s", format!("{:.1}", rolled.as_secs_f64()));
            figures.note("longest drain s", format!("{:.1}", slowest.as_secs_f64()));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_rolled_behind_nginx() {
    let mut balancer = None;
    roll("nodes_are_rolled_behind_nginx", |nodes| balancer.insert(Nginx::before(nodes)).address).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_rolled_behind_haproxy() {
    let mut balancer = None;
    roll("nodes_are_rolled_behind_haproxy", |nodes| balancer.insert(Haproxy::before(nodes)).address).await;
}
