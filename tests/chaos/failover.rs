//! Tests failovers of Redis: a master fails and a replica is promoted.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pintalk_kit::proxy::{Proxy, Wire};
use pintalk_kit::redis::Kind;

use crate::eventually;
use crate::figures::Figures;
use crate::ledger::{Loss, Verdict};
use crate::setup::{Plan, Setup};
use crate::span;

/// Maximum time from the promotion of a replica until messages are acknowledged in all rooms.
const RECOVERY: Duration = Duration::from_secs(5);

/// Maximum time for Redis to elect a new master on a busy machine. PinTalk has no influence on the election.
const ELECTION: Duration = Duration::from_secs(20);

/// Maximum lag of a replica and of the archive when all processes run on one machine.
const LAG: Duration = Duration::from_millis(500);

/// Time from the end of replication until the test case reads which messages are archived.
const REPLICAS_BEHIND: Duration = Duration::from_millis(1_500);

fn plan(redis: Kind, wait: bool) -> Plan {
    let flags = if wait { vec!["--redis-wait".to_owned(), "1".to_owned()] } else { Vec::new() };
    Plan { redis: Some(redis), flags, ..Plan::default() }
}

/// Waits until a server that is not in `before` is a master. Returns the time at which this was observed.
pub async fn taken_over(setup: &Setup, before: &[usize]) -> Instant {
    let redis = setup.redis.as_ref().expect("a Redis");
    eventually("a replica takes over", ELECTION, async || {
        let is_master =
            |at: usize| redis.ask_one(at, "INFO replication").is_ok_and(|info| info.contains("role:master"));
        (0..redis.len()).filter(|at| !before.contains(at)).any(is_master).then_some(())
    })
    .await;
    Instant::now()
}

/// Messages of each room that a failover may lose: those that were acknowledged while the replicas lagged. All other
/// messages must be stored.
struct Window {
    after: Vec<u64>,
    through: Vec<u64>,
}

impl Window {
    /// Creates a window that starts after `after`, the highest numbers that are safely stored. It ends at the newest
    /// message that any client has received so far.
    fn since(setup: &Setup, after: Vec<u64>) -> Self {
        Self { after, through: setup.ledger.heads(setup.rooms.len()) }
    }

    /// Removes the permitted losses from a verdict and returns their number.
    fn forgive(&self, verdict: &mut Verdict) -> usize {
        let is_forgiven =
            |loss: &Loss| !loss.is_stored && self.after[loss.room] < loss.seq && loss.seq <= self.through[loss.room];
        let gone: BTreeSet<_> =
            verdict.lost.iter().filter(|loss| is_forgiven(loss)).map(|loss| (loss.room, loss.seq)).collect();
        verdict.lost.retain(|loss| !is_forgiven(loss));
        gone.len()
    }
}

/// Measurements of one failover.
struct Failover {
    /// Messages that the failover may lose. `None` if it must not lose any.
    window: Option<Window>,
    /// Time from the failure of the master to the promotion of a replica.
    elected: Duration,
    whole: Duration,
}

impl Failover {
    /// Waits until the failover is complete. `gone` is the time at which the master failed.
    async fn watch(setup: &Setup, before: &[usize], gone: Instant, window: Option<Window>) -> Self {
        let failed_over = taken_over(setup, before).await;
        let whole = setup.all_acknowledged_since(failed_over, Duration::from_secs(30)).await;
        Self { window, elected: failed_over - gone, whole }
    }

    /// Lets clients exchange messages for a while, then compares all messages. Returns the number of permitted losses.
    async fn finish(self, mut setup: Setup, note: impl FnOnce(&mut Figures)) -> usize {
        tokio::time::sleep(span(3, 30)).await;
        let forgive = |verdict: &mut Verdict| self.window.as_ref().map_or(0, |window| window.forgive(verdict));
        let (mut figures, verdict) = setup.settle_but_for(forgive).await;
        figures.whole = Some(self.whole.as_secs_f64());
        figures.note("elected after s", format!("{:.1}", self.elected.as_secs_f64()));
        figures.note("1013", setup.ledger.closes(1013));
        note(&mut figures);
        figures.show(&setup.case);
        setup.complain(&verdict);
        assert!(self.whole <= RECOVERY, "whole again only {:?} after the failover", self.whole);
        setup.stop().await;
        figures.lost
    }
}

async fn killed(case: &str, redis: Kind, wait: bool) {
    let mut setup = Setup::set(case, plan(redis, wait)).await;
    let had = setup.ledger.heads(setup.rooms.len());
    tokio::time::sleep(LAG).await;
    let masters = setup.redis().masters_now();
    setup.redis().kill_one(0);
    let gone = Instant::now();
    let window = (!wait).then(|| Window::since(&setup, had));
    Failover::watch(&setup, &masters, gone, window).await.finish(setup, |_| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_behind_sentinels_is_killed() {
    killed("the_master_behind_sentinels_is_killed", Kind::Sentinel, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_redis_wait_a_failover_loses_nothing() {
    killed("with_redis_wait_a_failover_loses_nothing", Kind::Sentinel, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_of_a_cluster_is_killed() {
    killed("a_master_of_a_cluster_is_killed", Kind::Cluster, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_frozen_master_returns_as_a_second_master() {
    let mut setup = Setup::set("the_frozen_master_returns", plan(Kind::Sentinel, false)).await;
    let had = setup.ledger.heads(setup.rooms.len());
    tokio::time::sleep(LAG).await;
    setup.redis().freeze_one(0);
    let gone = Instant::now();
    let window = Window::since(&setup, had);
    let failover = Failover::watch(&setup, &[0], gone, Some(window)).await;
    setup.redis().thaw_one(0);
    // Waits until the Sentinels have made the previous master a replica.
    let thawed = Instant::now();
    let redis = setup.redis.as_ref().expect("a Redis");
    eventually("the old master follows the new one", Duration::from_secs(30), async || {
        redis.ask_one(0, "INFO replication").is_ok_and(|info| info.contains("role:slave")).then_some(())
    })
    .await;
    let wait_for_statuses = thawed.elapsed();
    failover
        .finish(setup, |figures| figures.note("two masters s", format!("{:.1}", wait_for_statuses.as_secs_f64())))
        .await;
}

/// Kills the master while its replicas are two seconds behind it. Returns the number of lost messages.
async fn lagging(case: &str, sql: Wire, wait: bool) -> usize {
    let mut setup = Setup::set(case, plan(Kind::Sentinel, wait)).await;
    setup.sql_wire().set(sql);
    let redis = setup.redis();
    let port = field(&redis.ask_one(0, "INFO server").expect("redis answers"), "tcp_port:");
    let wire = Proxy::before(format!("127.0.0.1:{port}").parse().expect("an address")).await;
    for replica in [1, 2] {
        let order = format!("REPLICAOF 127.0.0.1 {}", wire.address.port());
        assert!(redis.ask_one(replica, &order).expect("redis answers").starts_with("+OK"));
    }
    // The Sentinels would revert this configuration after a few seconds. The master is killed before that.
    let redis = setup.redis.as_ref().expect("a Redis");
    eventually("the replicas follow through the wire", Duration::from_secs(5), async || {
        let follows = |at| {
            let info = redis.ask_one(at, "INFO replication").unwrap_or_default();
            field(&info, "master_port:") == wire.address.port().to_string() && info.contains("master_link_status:up")
        };
        (follows(1) && follows(2)).then_some(())
    })
    .await;
    let rooms = setup.rooms.len();
    let replicas_had = setup.ledger.heads(rooms);
    // Waits until the replicas have received all data in flight.
    tokio::time::sleep(LAG).await;
    wire.set(Wire::Silent);
    let silent = Instant::now();
    tokio::time::sleep(REPLICAS_BEHIND).await;
    let archived = setup.ledger.heads(rooms);
    tokio::time::sleep(LAG).await;
    setup.redis().kill_one(0);
    let gone = Instant::now();
    // Messages that the database contains are not lost, even if the promoted replica does not have them. The window
    // therefore starts after these messages.
    let had = if sql == Wire::Whole { archived } else { replicas_had };
    let window = (!wait).then(|| Window::since(&setup, had));
    setup.sql_wire().set(Wire::Whole);
    let failover = Failover::watch(&setup, &[0], gone, window).await;
    let behind = format!("{:.1}", (gone - silent).as_secs_f64());
    failover.finish(setup, |figures| figures.note("replicas behind s", behind)).await
}

fn field(info: &str, name: &str) -> String {
    info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_in_sql_survive_although_the_replicas_lack_them() {
    lagging("what_replicas_lack_and_sql_has_is_kept", Wire::Whole, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_messages_that_neither_the_replicas_nor_sql_have_are_lost() {
    // On a slow machine, the Sentinels may revert the configuration of the replicas before the master is killed. The
    // test case is then repeated.
    for _ in 0..3 {
        if lagging("what_neither_replicas_nor_sql_have", Wire::Cut, false).await > 0 {
            return;
        }
    }
    panic!("the replicas were never behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_redis_wait_messages_that_the_replicas_lack_are_not_acknowledged() {
    for (case, sql) in [("redis_wait_and_replicas_behind", Wire::Whole), ("redis_wait_and_no_sql_either", Wire::Cut)] {
        assert_eq!(lagging(case, sql, true).await, 0);
    }
}
