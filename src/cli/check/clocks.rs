//! Checks the clock skew between this machine and the stores.

use std::time::Duration;

use super::Finding;
use crate::backend::redis::Redis;
use crate::domain::NodeId;
use crate::domain::Rng;
use crate::node::clock_skew::{JOBS_LIMIT, REPORTED, Skew, Skews};
use crate::node::config::Mode;
use crate::store::Store;

/// Maximum time to read the clocks once. It is below the timeout of a check, so that the finding names the clock.
const READ_TIMEOUT: Duration = Duration::from_secs(4);

/// Measures and reports the clock skew. Returns no findings if the database is SQLite, which uses the clock of this
/// machine.
pub(super) async fn check(mode: &Mode) -> Vec<Finding> {
    let Ok(store) = Store::connect_lazy(mode.database().expose()).await else { return Vec::new() };
    let node = NodeId::from_random(Rng::from_entropy().bytes());
    let redis = mode.redis().and_then(|url| Redis::new(url.expose(), node).ok());
    let mut findings = Vec::new();
    if let Some(skew) = Skew::new(store.clone(), redis.clone()) {
        skew.measure_within(READ_TIMEOUT).await;
        findings.push(assess(skew.skews(), redis.is_some()));
    }
    if let Some(redis) = redis {
        redis.quit().await;
    }
    store.close().await;
    findings
}

/// Assesses the measured skews. `has_redis` is whether there is a Redis whose clock must agree.
fn assess(skews: Skews, has_redis: bool) -> Finding {
    if let Some(skew) = skews.above(JOBS_LIMIT) {
        return Finding::wrong(format!("clocks: {skew}: above 30 s no node leads or runs jobs"));
    }
    if let Some(skew) = skews.above(REPORTED) {
        return Finding::risky(format!("clocks: {skew}: synchronise all clocks with NTP"));
    }
    match (skews.sql.is_some(), has_redis, skews.redis.is_some()) {
        (true, true, true) => Finding::good("clocks: this machine, SQL and Redis agree within 1 s"),
        (true, false, _) => Finding::good("clocks: this machine and SQL agree within 1 s"),
        (true, true, false) => Finding::risky("clocks: the clock of Redis could not be read, so it was not compared"),
        (false, true, true) => Finding::risky("clocks: the clock of SQL could not be read, so it was not compared"),
        (false, ..) => Finding::risky("clocks: no clock of a store could be read, so none was compared"),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::super::Severity;
    use super::*;

    #[test]
    fn finding_names_the_largest_skew_and_its_severity() {
        let finding = |sql, redis, stores| {
            let skew = |seconds: f64| Some(TimeDelta::milliseconds((seconds * 1_000.0) as i64));
            assess(Skews { sql: skew(sql), redis: skew(redis), stores: skew(stores) }, true)
        };
        assert_eq!(finding(0.9, -0.9, 0.0).severity, Severity::Good);
        let risky = finding(-1.5, 0.2, 1.7);
        assert_eq!(risky.severity, Severity::Risky);
        assert!(risky.text.contains("SQL's clock is 1.7 s ahead of Redis'"), "{}", risky.text);
        let wrong = finding(-31.0, 0.0, 31.0 - 0.5);
        assert_eq!(wrong.severity, Severity::Wrong);
        assert!(wrong.text.contains("this machine's clock is 31.0 s behind SQL's"), "{}", wrong.text);
    }

    #[test]
    fn unread_clock_does_not_count_as_agreeing() {
        let read = |sql: Option<TimeDelta>, redis: Option<TimeDelta>, has_redis| {
            assess(Skews { sql, redis, stores: None }, has_redis)
        };
        let zero = Some(TimeDelta::zero());
        assert_eq!(read(zero, zero, true).severity, Severity::Good);
        assert_eq!(read(zero, None, false).severity, Severity::Good);
        for (sql, redis, has_redis, part) in [
            (zero, None, true, "the clock of Redis could not be read"),
            (None, zero, true, "the clock of SQL could not be read"),
            (None, None, true, "no clock of a store could be read"),
            (None, None, false, "no clock of a store could be read"),
        ] {
            let finding = read(sql, redis, has_redis);
            assert_eq!(finding.severity, Severity::Risky);
            assert!(finding.text.contains(part), "{}", finding.text);
        }
    }
}
