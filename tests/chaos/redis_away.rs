//! Tests with a Redis that is frozen, killed and restarted, cut off, or silent.

use std::time::{Duration, Instant};

use pintalk_kit::proxy::Wire;

use crate::span;
use crate::stage::{Plan, Stage};

/// Time limit from the recovery of Redis until messages are acknowledged.
const WHOLE: Duration = Duration::from_secs(10);

/// Makes Redis unavailable with `go` and available again with `back`. Meanwhile nodes must not be ready, must not break
/// a socket, and must not acknowledge a message.
async fn away(mut stage: Stage, silence: Duration, go: impl AsyncFn(&mut Stage), back: impl AsyncFn(&mut Stage)) {
    go(&mut stage).await;
    let gone = Instant::now();
    let noticed = stage.readiness_is(503, Duration::from_secs(10)).await;
    tokio::time::sleep(silence.saturating_sub(gone.elapsed())).await;
    let broken = stage.ledger.closes(1006);
    let false_acknowledgements = stage
        .ledger
        .sum(|record| record.acknowledged_at.iter().filter(|at| **at > gone + Duration::from_millis(500)).count());
    back(&mut stage).await;
    let healed = Instant::now();
    let ready = stage.readiness_is(200, Duration::from_secs(15)).await;
    let whole = stage.all_acknowledged_since(healed, WHOLE).await;
    assert_eq!(broken, 0, "a socket broke while Redis was away");
    assert_eq!(false_acknowledgements, 0, "a message was acknowledged while Redis was unavailable");
    tokio::time::sleep(Duration::from_secs(3)).await;
    stage
        .finish(|stage, figures| {
            figures.whole = Some(whole.as_secs_f64());
            figures.note("away s", silence.as_secs());
            figures.note("503 after s", format!("{:.1}", noticed.as_secs_f64()));
            figures.note("200 after s", format!("{:.1}", ready.as_secs_f64()));
            figures.note("1013", stage.ledger.closes(1013));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_frozen() {
    let stage = Stage::set("redis_is_frozen", Plan::default()).await;
    let (go, back) = (async |stage: &mut Stage| stage.redis().freeze(), async |stage: &mut Stage| stage.redis().thaw());
    away(stage, span(13, 30), go, back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_killed_and_restarts_from_its_file() {
    let stage = Stage::set("redis_is_killed", Plan::default()).await;
    let (go, back) =
        (async |stage: &mut Stage| stage.redis().kill_one(0), async |stage: &mut Stage| stage.redis().restart_one(0));
    away(stage, span(5, 30), go, back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_to_redis_becomes_silent() {
    let plan = Plan { wired_redis: true, ..Plan::default() };
    let stage = Stage::set("the_connection_to_redis_becomes_silent", plan).await;
    let go = async |stage: &mut Stage| stage.redis_wire().set(Wire::Silent);
    let back = async |stage: &mut Stage| stage.redis_wire().set(Wire::Whole);
    away(stage, span(13, 30), go, back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_redis_are_reset_and_killed_repeatedly() {
    let plan = Plan { wired_redis: true, ..Plan::default() };
    let mut stage = Stage::set("connections_to_redis_are_reset", plan).await;
    let began = Instant::now();
    let mut faults = 0;
    while began.elapsed() < span(8, 60) {
        match stage.rng.below(3) {
            0 => stage.redis_wire().reset().await,
            1 => drop(stage.redis().ask_one(0, "CLIENT KILL TYPE pubsub").expect("redis answers")),
            _ => drop(stage.redis().ask_one(0, "CLIENT KILL TYPE normal SKIPME yes").expect("redis answers")),
        }
        faults += 1;
        tokio::time::sleep(Duration::from_millis(200 + stage.rng.below(600))).await;
    }
    let healed = Instant::now();
    let whole = stage.all_acknowledged_since(healed, WHOLE).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stage.ledger.closes(1006), 0, "a socket broke");
    stage
        .finish(|stage, figures| {
            figures.whole = Some(whole.as_secs_f64());
            figures.note("faults", faults);
            figures.note("1013", stage.ledger.closes(1013));
        })
        .await;
}
