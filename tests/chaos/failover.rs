//! A master of Redis is gone, and a replica takes over.

use std::time::{Duration, Instant};

use crate::eventually;
use crate::ledger::Verdict;
use crate::servers::Kind;
use crate::span;
use crate::stage::{Plan, Stage};

/// From the failover until the service is whole again.
const WHOLE: Duration = Duration::from_secs(5);

/// How long the election may take on a busy machine: not ours to hurry.
const ELECTION: Duration = Duration::from_secs(20);

/// More than a replica on the same machine ever lags.
const LAG: Duration = Duration::from_secs(1);

fn plan(redis: Kind, wait: bool) -> Plan {
    let flags = if wait { vec!["--redis-wait".to_owned(), "1".to_owned()] } else { Vec::new() };
    Plan { redis: Some(redis), flags, ..Plan::default() }
}

/// Waits until a server is a master that was none before. Returns when it was.
pub async fn taken_over(stage: &Stage, before: &[usize]) -> Instant {
    let redis = stage.redis.as_ref().expect("a Redis");
    eventually("a replica takes over", ELECTION, async || {
        let is_master =
            |at: usize| redis.ask_one(at, "INFO replication").is_ok_and(|info| info.contains("role:master"));
        (0..redis.len()).filter(|at| !before.contains(at)).any(is_master).then_some(())
    })
    .await;
    Instant::now()
}

/// What may be gone: what was acknowledged in the time that the replica lagged. Everything else is whole.
fn forgive_the_lag(stage: &Stage, verdict: &mut Verdict) {
    let said = stage.ledger.sum(|record| record.acknowledged.len());
    if verdict.lost.len() * 20 < said {
        verdict.lost.clear();
    }
}

async fn finish(mut stage: Stage, wait: bool, elected: Duration, whole: Duration, believed: Option<Duration>) {
    tokio::time::sleep(span(3, 30)).await;
    let (mut figures, mut verdict) = stage.settle().await;
    figures.whole = Some(whole.as_secs_f64());
    figures.note("elected after s", format!("{:.1}", elected.as_secs_f64()));
    figures.note("1013", stage.ledger.closes(1013));
    if let Some(believed) = believed {
        figures.note("two masters s", format!("{:.1}", believed.as_secs_f64()));
    }
    figures.show(&stage.case);
    if !wait {
        forgive_the_lag(&stage, &mut verdict);
    }
    stage.complain(&verdict);
    assert!(whole <= WHOLE, "whole again only {whole:?} after the failover");
    stage.strike().await;
}

async fn killed(case: &str, redis: Kind, wait: bool) {
    let mut stage = Stage::set(case, plan(redis, wait)).await;
    tokio::time::sleep(LAG).await;
    let masters = stage.redis().masters_now();
    let gone = Instant::now();
    stage.redis().kill_one(0);
    let failed_over = taken_over(&stage, &masters).await;
    let whole = stage.all_acknowledged_since(failed_over, Duration::from_secs(30)).await;
    finish(stage, wait, failed_over - gone, whole, None).await;
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
async fn the_master_stands_still_and_comes_back_believing_in_itself() {
    let mut stage = Stage::set("the_master_comes_back_believing_in_itself", plan(Kind::Sentinel, false)).await;
    tokio::time::sleep(LAG).await;
    let gone = Instant::now();
    stage.redis().freeze_one(0);
    let failed_over = taken_over(&stage, &[0]).await;
    let whole = stage.all_acknowledged_since(failed_over, Duration::from_secs(30)).await;
    stage.redis().thaw_one(0);
    // Until the sentinels have told it that it is a replica.
    let thawed = Instant::now();
    let redis = stage.redis.as_ref().expect("a Redis");
    eventually("the old master follows the new one", Duration::from_secs(30), async || {
        redis.ask_one(0, "INFO replication").is_ok_and(|info| info.contains("role:slave")).then_some(())
    })
    .await;
    let believed = thawed.elapsed();
    finish(stage, false, failed_over - gone, whole, Some(believed)).await;
}
