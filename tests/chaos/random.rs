//! Injects random faults for one minute, or for one hour in `tests/chaos-long`. The seed determines the faults and
//! their order.

use std::time::{Duration, Instant};

use pintalk_kit::proxy::Wire;
use pintalk_kit::redis::Kind;

use crate::client::Manner;
use crate::failover::taken_over;
use crate::setup::{Plan, Setup};

/// Maximum time from the end of a fault until messages are acknowledged in all rooms and all nodes are ready.
const RECOVERY: Duration = Duration::from_secs(30);

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")),
        Err(_) => default,
    }
}

/// Seed of the test case. It is printed if the test case fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("again: tests/chaos-long --seed {}", self.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_in_any_order_lose_nothing() {
    let seed = Seed(setting("PINTALK_CHAOS_SEED", 11));
    let span = Duration::from_secs(60 * setting("PINTALK_CHAOS_MINUTES", 1));
    println!("seed {}, {span:?}", seed.0);
    // With `redis-wait`, a failover must not lose any acknowledged message.
    let plan = Plan {
        redis: Some(Kind::Sentinel),
        flags: vec!["--redis-wait".into(), "1".into()],
        manner: Manner { ack_timeout: Some(Duration::from_secs(15)), ..Manner::default() },
        seed: seed.0,
        ..Plan::default()
    };
    let mut setup = Setup::set("faults_in_any_order_lose_nothing", plan).await;
    let (began, mut faults, mut slowest) = (Instant::now(), 0, Duration::ZERO);
    while began.elapsed() < span {
        let fault = setup.rng.below(8);
        let injected = break_something(&mut setup, fault).await;
        let healed = Instant::now();
        setup.readiness_is(200, RECOVERY).await;
        let whole = setup.all_acknowledged_since(healed, RECOVERY).await;
        slowest = slowest.max(whole);
        faults += 1;
        println!(
            "{:>5} s  {injected}: whole {:.1} s; sent {}, acknowledged {}",
            began.elapsed().as_secs(),
            whole.as_secs_f64(),
            setup.ledger.sum(|record| record.sent),
            setup.ledger.sum(|record| record.acknowledged.len())
        );
        let wrong: Vec<String> = setup.ledger.each(|record| record.faults.clone()).into_iter().flatten().collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        // The access token expires before the test case ends, so the host logs in again.
        setup.log_in_again().await;
        tokio::time::sleep(Duration::from_millis(1_000 + setup.rng.below(4_000))).await;
    }
    setup
        .finish(|_, figures| {
            figures.whole = Some(slowest.as_secs_f64());
            figures.note("seed", seed.0);
            figures.note("faults", faults);
        })
        .await;
}

/// Injects one fault, repairs it after a random time, and returns its name.
async fn break_something(setup: &mut Setup, fault: u64) -> String {
    let pause = Duration::from_millis(500 + setup.rng.below(15_000));
    let node = setup.rng.below(setup.nodes.len() as u64) as usize;
    let master = || setup.redis.as_ref().expect("a Redis").masters_now().first().copied().expect("a master");
    match fault {
        0 | 1 => {
            setup.nodes[node].kill();
            tokio::time::sleep(pause).await;
            setup.nodes[node].start_again();
            format!("node {node} was killed and away for {pause:?}")
        }
        2 => {
            setup.nodes[node].signal("-STOP");
            tokio::time::sleep(pause).await;
            setup.nodes[node].signal("-CONT");
            format!("node {node} stood still for {pause:?}")
        }
        3 => {
            setup.nodes[node].signal("-TERM");
            let until = Instant::now() + Duration::from_secs(70);
            let code = loop {
                if let Some(code) = setup.nodes[node].has_ended() {
                    break code;
                }
                assert!(Instant::now() < until, "a node does not end");
                tokio::time::sleep(Duration::from_millis(50)).await;
            };
            assert_eq!(code, Some(0), "a node that drained ends in order");
            setup.nodes[node].start_again();
            format!("node {node} was stopped")
        }
        4 => {
            setup.sql_wire().set(Wire::Cut);
            tokio::time::sleep(pause).await;
            setup.sql_wire().set(Wire::Whole);
            format!("MySQL refused connections for {pause:?}")
        }
        5 => {
            setup.sql_wire().set(Wire::Silent);
            tokio::time::sleep(pause).await;
            setup.sql_wire().set(Wire::Whole);
            format!("MySQL was silent for {pause:?}")
        }
        6 => {
            let master = master();
            setup.redis().kill_one(master);
            taken_over(setup, &[master]).await;
            setup.redis().restart_one(master);
            format!("Redis {master} was killed, and another took over")
        }
        _ => {
            let master = master();
            setup.redis().freeze_one(master);
            taken_over(setup, &[master]).await;
            tokio::time::sleep(pause).await;
            setup.redis().thaw_one(master);
            format!("Redis {master} stood still, another took over, and after {pause:?} it went on")
        }
    }
}
