//! Tests of the skew measurement and its effects. The tests supply the clock readings, so no server is contacted.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::*;
use crate::domain::clock::ManualClock;

const SERVER: &str = "127.0.0.1:6379";

/// Skew measurement of a cluster node whose store clocks the test sets.
struct Setup {
    skew: Skew,
    machine: Arc<ManualClock>,
}

impl Setup {
    async fn new() -> Self {
        let store = Store::connect_lazy("mysql://root@127.0.0.1:1/nothing").await.unwrap();
        let mut skew = Skew::new(store, None).unwrap();
        let machine = Arc::new(ManualClock::new(SystemClock.now()));
        skew.machine = machine.clone();
        Self { skew, machine }
    }

    /// Returns a reading of a clock that is `seconds` ahead of the machine's clock.
    fn reading(&self, seconds: i64) -> Reading {
        let now = Instant::now();
        let shown: DateTime<Utc> = self.machine.now() + TimeDelta::seconds(seconds);
        Reading { shown, asked: now, answered: now + Duration::from_millis(1) }
    }

    /// Records readings of the database clock and of the clock of a Redis server. Each argument is the number of
    /// seconds by which that clock is ahead of the machine. Returns whether the agreement holds afterwards.
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
async fn clocks_do_not_agree_before_they_are_measured() {
    let setup = Setup::new().await;
    assert!(!setup.skew.agreement().holds());
    setup.skew.judge();
    assert!(!setup.skew.agreement().holds());
    assert_eq!(setup.skew.skews(), Skews::default());
    assert!(setup.measured(0, 0));
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
        // Each clock is within the limit of the machine's clock, but the difference between the two clocks is above the
        // limit.
        (20, -20, false),
    ] {
        let setup = Setup::new().await;
        assert_eq!(setup.measured(sql, redis), agree, "{sql} {redis}");
        assert_eq!(setup.seconds(), [-sql, -redis, sql - redis]);
    }
}

#[tokio::test]
async fn a_step_of_sql_forbids_jobs_before_its_clock_follows_and_until_it_is_corrected() {
    let setup = Setup::new().await;
    assert!(setup.measured(0, 0));
    let (clock, agreement) = (setup.skew.clock(), setup.skew.agreement());
    let before = clock.now();
    assert!(setup.skew.observe_sql(&setup.reading(8 * 86_400)), "it is read again");
    assert_eq!((agreement.holds(), (clock.now() - before).num_minutes()), (false, 0));
    // The second reading is missing, as if the database had become unavailable.
    setup.skew.judge();
    assert!(!agreement.holds());
    assert!(!setup.measured(8 * 86_400, 0));
    assert!((clock.now() - before - TimeDelta::days(8)).abs() < TimeDelta::minutes(1));
    assert!(setup.measured(0, 0));
    assert_eq!((clock.now() - before).num_minutes(), 0);
    // The clock adopts a change of a few seconds, and the agreement still holds.
    assert!(setup.measured(5, 0));
    assert!((4..=7).contains(&(clock.now() - before).num_seconds()));
}

#[tokio::test]
async fn a_step_of_the_machine_is_skew_and_changes_no_clock() {
    let setup = Setup::new().await;
    assert!(setup.measured(0, 0));
    let (clock, before) = (setup.skew.clock(), setup.skew.clock().now());
    setup.machine.advance(Duration::from_secs(3_600));
    // The skew is detected even if no store responds.
    setup.skew.judge();
    assert!(!setup.skew.agreement().holds());
    assert!((clock.now() - before).num_seconds() < 60);
    assert_eq!(setup.seconds()[..2], [3_600, 3_600]);
    assert!(!setup.measured(-3_600, -3_600));
}

#[tokio::test]
async fn the_server_with_the_largest_skew_counts_and_removed_servers_are_forgotten() {
    let setup = Setup::new().await;
    setup.measured(0, 0);
    let two = [("a".to_owned(), setup.reading(1)), ("b".to_owned(), setup.reading(-40))];
    setup.skew.observe_redis(&two);
    setup.skew.judge();
    assert_eq!(setup.seconds()[1], 40);
    assert!(!setup.skew.agreement().holds());
    setup.skew.observe_redis(&two[..1]);
    setup.skew.judge();
    assert_eq!(setup.seconds()[1], -1);
    assert!(setup.skew.agreement().holds());
}
