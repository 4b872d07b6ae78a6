//! Tests a Redis that is frozen, killed and restarted, cut off, or silent.

use std::time::{Duration, Instant};

use pintalk_kit::proxy::Wire;

use crate::setup::{Plan, Setup};
use crate::span;

/// Maximum time from the recovery of Redis until messages are acknowledged.
const RECOVERY: Duration = Duration::from_secs(10);

/// Makes Redis unavailable with `go`, and available again with `back` after `silence`. While Redis is unavailable, the
/// nodes must not be ready, end a socket without a close frame, or acknowledge a message.
async fn away(mut setup: Setup, silence: Duration, go: impl AsyncFn(&mut Setup), back: impl AsyncFn(&mut Setup)) {
    go(&mut setup).await;
    let gone = Instant::now();
    let noticed = setup.readiness_is(503, Duration::from_secs(10)).await;
    tokio::time::sleep(silence.saturating_sub(gone.elapsed())).await;
    let broken = setup.ledger.closes(1006);
    let false_acknowledgements = setup
        .ledger
        .sum(|record| record.acknowledged_at.iter().filter(|at| **at > gone + Duration::from_millis(500)).count());
    back(&mut setup).await;
    let healed = Instant::now();
    let ready = setup.readiness_is(200, Duration::from_secs(15)).await;
    let whole = setup.all_acknowledged_since(healed, RECOVERY).await;
    assert_eq!(broken, 0, "a socket broke while Redis was away");
    assert_eq!(false_acknowledgements, 0, "a message was acknowledged while Redis was unavailable");
    tokio::time::sleep(Duration::from_secs(3)).await;
    setup
        .finish(|setup, figures| {
            figures.whole = Some(whole.as_secs_f64());
            figures.note("away s", silence.as_secs());
            figures.note("503 after s", format!("{:.1}", noticed.as_secs_f64()));
            figures.note("200 after s", format!("{:.1}", ready.as_secs_f64()));
            figures.note("1013", setup.ledger.closes(1013));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_frozen() {
    let setup = Setup::set("redis_is_frozen", Plan::default()).await;
    let (go, back) = (async |setup: &mut Setup| setup.redis().freeze(), async |setup: &mut Setup| setup.redis().thaw());
    away(setup, span(13, 30), go, back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_killed_and_restarts_from_its_file() {
    let setup = Setup::set("redis_is_killed", Plan::default()).await;
    let (go, back) =
        (async |setup: &mut Setup| setup.redis().kill_one(0), async |setup: &mut Setup| setup.redis().restart_one(0));
    away(setup, span(5, 30), go, back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_to_redis_becomes_silent() {
    let plan = Plan { wired_redis: true, ..Plan::default() };
    let setup = Setup::set("the_connection_to_redis_becomes_silent", plan).await;
    let go = async |setup: &mut Setup| setup.redis_wire().set(Wire::Silent);
    let back = async |setup: &mut Setup| setup.redis_wire().set(Wire::Whole);
    away(setup, span(13, 30), go, back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_redis_are_reset_and_killed_repeatedly() {
    let plan = Plan { wired_redis: true, ..Plan::default() };
    let mut setup = Setup::set("connections_to_redis_are_reset", plan).await;
    let began = Instant::now();
    let mut faults = 0;
    while began.elapsed() < span(8, 60) {
        match setup.rng.below(3) {
            0 => setup.redis_wire().reset().await,
            1 => drop(setup.redis().ask_one(0, "CLIENT KILL TYPE pubsub").expect("redis answers")),
            _ => drop(setup.redis().ask_one(0, "CLIENT KILL TYPE normal SKIPME yes").expect("redis answers")),
        }
        faults += 1;
        tokio::time::sleep(Duration::from_millis(200 + setup.rng.below(600))).await;
    }
    let healed = Instant::now();
    let whole = setup.all_acknowledged_since(healed, RECOVERY).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(setup.ledger.closes(1006), 0, "a socket broke");
    setup
        .finish(|setup, figures| {
            figures.whole = Some(whole.as_secs_f64());
            figures.note("faults", faults);
            figures.note("1013", setup.ledger.closes(1013));
        })
        .await;
}
