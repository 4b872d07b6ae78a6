//! Replaces the nodes of one release with those of the next, one after another. The nodes are behind a load balancer,
//! and clients exchange messages.
//!
//! The next release is a copy of this build with additional schema changes. These changes are applied while all nodes
//! still run the current release. If `PINTALK_CHAOS_FROM` is the path of an earlier release's executable, the rollout
//! starts from that release.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pintalk_kit::haproxy::Haproxy;
use pintalk_kit::nginx::Nginx;
use sea_orm::ConnectionTrait as _;
use tokio::task::JoinHandle;

use crate::BUILT;
use crate::ledger::p99;
use crate::setup::{Plan, Setup};
use crate::span;

/// Maximum 99th percentile of acknowledgement latencies. It applies to clients of nodes that are not being replaced.
const GOAL: Duration = Duration::from_millis(100);

/// Maximum 99th percentile of the machine's wake-up delays. A machine with longer delays is too slow to measure
/// acknowledgement latencies.
const PUNCTUAL: Duration = Duration::from_millis(5);

/// Measures the wake-up delays of the machine until it is dropped.
struct Metronome {
    late: Arc<Mutex<Vec<Duration>>>,
    task: JoinHandle<()>,
}

impl Metronome {
    fn start() -> Self {
        let late: Arc<Mutex<Vec<Duration>>> = Arc::default();
        let noted = late.clone();
        let task = tokio::spawn(async move {
            loop {
                let due = Instant::now() + Duration::from_millis(10);
                tokio::time::sleep_until(due.into()).await;
                noted.lock().push(due.elapsed());
            }
        });
        Self { late, task }
    }

    fn p99(&self) -> Duration {
        let mut late = self.late.lock().clone();
        late.sort();
        p99(&late)
    }
}

impl Drop for Metronome {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Adds a column to each table that is used to process messages, as a migration of the next release may do. Marks this
/// migration as applied.
async fn migrate_ahead(setup: &Setup) {
    let tables = ["user", "user_config", "login", "chatroom", "room_event", "chat_message"];
    let columns = tables.map(|table| format!("ALTER TABLE `{table}` ADD COLUMN of_the_next_release VARCHAR(32)"));
    let applied =
        "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29991231_000001_of_the_next_release', 1)";
    for statement in columns.iter().map(String::as_str).chain([applied]) {
        setup.store.connection().execute_unprepared(statement).await.expect("the schema is changed");
    }
}

async fn roll(case: &str, before: impl FnOnce(&[SocketAddr]) -> SocketAddr) {
    let (delay, drain) = (span(2, 5), span(5, 20));
    let seconds = |span: Duration| format!("{}s", span.as_secs());
    let flags = ["--trusted-proxies", "127.0.0.1", "--drain-delay", &seconds(delay), "--drain", &seconds(drain)];
    let program = std::env::var_os("PINTALK_CHAOS_FROM").map_or_else(|| BUILT.into(), PathBuf::from);
    let plan = Plan { flags: flags.map(str::to_owned).to_vec(), rooms: 0, guests: 3, program, ..Plan::default() };
    let mut setup = Setup::set_empty(case, &plan).await;
    let nodes: Vec<SocketAddr> = setup.nodes.iter().map(|node| node.address).collect();
    *setup.open_nodes.lock() = vec![before(&nodes)];
    setup.fill(10, &plan).await;

    let (metronome, migrating) = (Metronome::start(), Instant::now());
    migrate_ahead(&setup).await;
    // A node of the current release must still start after the migration, for example because its machine has failed.
    let late = setup.nodes[0].start_another(&[]);
    late.ready(&setup.http).await;
    drop(late);
    let next_release = tempfile::tempdir().expect("a folder");
    let next_release = (next_release.path().join("pintalk"), next_release);
    std::fs::copy(BUILT, &next_release.0).expect("a program");

    let (mut slowest, mut spread): (Duration, Vec<f64>) = (Duration::ZERO, Vec::new());
    let rolling = Instant::now();
    for at in 0..setup.nodes.len() {
        let closed_before = setup.ledger.closes(1012);
        setup.nodes[at].signal("-TERM");
        let signalled = Instant::now();
        // Time from the signal until each socket was closed.
        let mut gone: Vec<Duration> = Vec::new();
        let code = loop {
            let now = setup.ledger.closes(1012) - closed_before;
            gone.resize(now.max(gone.len()), signalled.elapsed());
            if let Some(code) = setup.nodes[at].has_ended() {
                break code;
            }
            assert!(signalled.elapsed() < delay + drain * 2 + Duration::from_secs(10), "a node does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(code, Some(0), "a node that drained ends in order");
        slowest = slowest.max(signalled.elapsed());
        if let (Some(first), Some(last), true) = (gone.first(), gone.last(), gone.len() > 4) {
            spread.push((*last - *first).as_secs_f64() / drain.as_secs_f64());
        }
        setup.nodes[at].start_again_as(&next_release.0);
        assert_eq!(setup.nodes[at].runs(), next_release.0);
        setup.nodes[at].ready(&setup.http).await;
        // The load balancer checks each node twice per second.
        setup.all_acknowledged_since(Instant::now(), Duration::from_secs(10)).await;
    }
    let rolled = rolling.elapsed();
    let waits = setup.ledger.waits(migrating..Instant::now());
    assert!(waits.len() > 1_000, "only {} were acknowledged meanwhile", waits.len());
    // Each message wakes processes about ten times. On a slow machine, the goal therefore includes a multiple of the
    // measured wake-up delay.
    let late = metronome.p99();
    let goal = if late < PUNCTUAL { GOAL } else { GOAL + late * 20 };
    assert!(p99(&waits) < goal, "99 of 100 were acknowledged within {:?}; the machine was {late:?} late", p99(&waits));
    let healed = Instant::now();
    let whole = setup.all_acknowledged_since(healed, Duration::from_secs(5)).await;
    let hints: Vec<u64> = setup.ledger.each(|record| record.hints.clone()).into_iter().flatten().collect();
    let (least, most) =
        (hints.iter().min().copied().unwrap_or_default(), hints.iter().max().copied().unwrap_or_default());
    assert!(hints.len() >= 20, "only {} were sent away", hints.len());
    assert!(most - least > 2_000, "{least} to {most} ms is not random");
    assert!(spread.iter().all(|share| *share > 0.5), "sockets were closed within {spread:?} of the window");
    setup
        .finish(|setup, figures| {
            figures.whole = Some(whole.as_secs_f64());
            figures.note("1012", setup.ledger.closes(1012));
            figures.note("broken sockets", setup.ledger.closes(1006));
            figures.note("hints ms", format!("{least}..{most}"));
            figures.note("machine late ms", format!("{:.1}", late.as_secs_f64() * 1_000.0));
            figures.note("p99 ms", format!("{:.1}", p99(&waits).as_secs_f64() * 1_000.0));
            figures.note("rolled s", format!("{:.1}", rolled.as_secs_f64()));
            figures.note("longest drain s", format!("{:.1}", slowest.as_secs_f64()));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_replaced_one_by_one_behind_nginx() {
    let mut balancer = None;
    roll("nodes_are_replaced_one_by_one_behind_nginx", |nodes| balancer.insert(Nginx::before(nodes)).address).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_replaced_one_by_one_behind_haproxy() {
    let mut balancer = None;
    roll("nodes_are_replaced_one_by_one_behind_haproxy", |nodes| balancer.insert(Haproxy::before(nodes)).address).await;
}
