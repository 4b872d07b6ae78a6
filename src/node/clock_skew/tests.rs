//! Tests of measured skew and its effects. The tests supply the readings and contact no server.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::*;
use crate::domain::clock::ManualClock;

const SERVER: &str = "127.0.0.1:6379";

/// Clock skew of a cluster node whose stores return times that a test sets.
struct Stage {
    skew: Skew,
    machine: Arc<ManualClock>,
}

impl Stage {
    async fn new() -> Self {
        let store = Store::connect_lazy("mysql://root@127.0.0.1:1/nothing").await.unwrap();
        let mut skew = Skew::new(store, None).unwrap();
        let machine = Arc::new(ManualClock::new(SystemClock.now()));
        skew.machine = machine.clone();
        Self { skew, machine }
    }

    /// Returns a reading with the given difference to the machine's clock.
    fn reading(&self, seconds: i64) -> Reading {
        let now = Instant::now();
        let shown: DateTime<Utc> = self.machine.now() + TimeDelta::seconds(seconds);
        Reading { shown, asked: now, answered: now + Duration::from_millis(1) }
    }

    /// Records readings of SQL and of a Redis server, and returns whether the agreement holds afterwards.
    fn measured(&self, sql: i64, redis: i64) -> bool {
        while self.skew.observe_sql(&self.reading(sql)) {
            assert!(!self.skew.agreement().holds(), "not while a step may be happening");
        }
        while self.skew.observe_redis(&[(SERVER.to_owned(), self.reading(redis))]) {}
        self.skew.judge();
        self.skew.agreement().holds()
    }

    fn seconds(&self) -> [i64; 3] {
        let Skews { sql, redis, stores } = self.skew.skews();
        [sql, redis, stores].map(|skew| (skew.unwrap().as_seconds_f64()).round() as i64)
    }
}

#[tokio::test]
async fn nothing_agrees_before_it_is_measured() {
    let stage = Stage::new().await;
    assert!(!stage.skew.agreement().holds());
    stage.skew.judge();
    assert!(!stage.skew.agreement().holds());
    assert_eq!(stage.skew.skews(), Skews::default());
    assert!(stage.measured(0, 0));
}

#[tokio::test]
async fn any_two_of_the_three_clocks_may_forbid_jobs() {
    for (sql, redis, agree) in [
        (0, 0, true),
        (29, 29, true),
        (-29, 0, true),
        (32, 32, false),
        (-691_200, -691_200, false),
        (0, 3_600, false),
        (86_400, 0, false),
        // Both clocks are within the limit of the machine's clock, but their difference from each other is above it.
        (20, -20, false),
    ] {
        let stage = Stage::new().await;
        assert_eq!(stage.measured(sql, redis), agree, "{sql} {redis}");
        assert_eq!(stage.seconds(), [-sql, -redis, sql - redis]);
    }
}

#[tokio::test]
async fn a_step_of_sql_forbids_jobs_before_its_clock_follows_and_until_it_is_corrected() {
    let stage = Stage::new().await;
    assert!(stage.measured(0, 0));
    let (clock, agreement) = (stage.skew.clock(), stage.skew.agreement());
    let before = clock.now();
    assert!(stage.skew.observe_sql(&stage.reading(8 * 86_400)), "it is read again");
    assert_eq!((agreement.holds(), (clock.now() - before).num_minutes()), (false, 0));
    // The second reading fails because SQL becomes unavailable.
    stage.skew.judge();
    assert!(!agreement.holds());
    assert!(!stage.measured(8 * 86_400, 0));
    assert!((clock.now() - before - TimeDelta::days(8)).abs() < TimeDelta::minutes(1));
    assert!(stage.measured(0, 0));
    assert_eq!((clock.now() - before).num_minutes(), 0);
    // The clock follows a step of a few seconds, and the agreement still holds.
    assert!(stage.measured(5, 0));
    assert!((4..=7).contains(&(clock.now() - before).num_seconds()));
}

#[tokio::test]
async fn a_step_of_the_machine_is_skew_and_changes_no_clock() {
    let stage = Stage::new().await;
    assert!(stage.measured(0, 0));
    let (clock, before) = (stage.skew.clock(), stage.skew.clock().now());
    stage.machine.advance(Duration::from_secs(3_600));
    // The result is the same if no store responds.
    stage.skew.judge();
    assert!(!stage.skew.agreement().holds());
    assert!((clock.now() - before).num_seconds() < 60);
    assert_eq!(stage.seconds()[..2], [3_600, 3_600]);
    assert!(!stage.measured(-3_600, -3_600));
}

#[tokio::test]
async fn of_several_servers_the_one_counts_that_differs_most_and_one_that_left_is_forgotten() {
    let stage = Stage::new().await;
    stage.measured(0, 0);
    let two = [("a".to_owned(), stage.reading(1)), ("b".to_owned(), stage.reading(-40))];
    stage.skew.observe_redis(&two);
    stage.skew.judge();
    assert_eq!(stage.seconds()[1], 40);
    assert!(!stage.skew.agreement().holds());
    stage.skew.observe_redis(&two[..1]);
    stage.skew.judge();
    assert_eq!(stage.seconds()[1], -1);
    assert!(stage.skew.agreement().holds());
}
