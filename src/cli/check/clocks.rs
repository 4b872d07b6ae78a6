//! Checks the clock skew between this machine and the stores.

use super::Finding;
use crate::backend::redis::Redis;
use crate::domain::NodeId;
use crate::domain::Rng;
use crate::node::clock_skew::{JOBS_LIMIT, REPORTED, Skew, Skews};
use crate::node::config::Mode;
use crate::store::Store;

/// Measures and reports the clock skew. Returns no findings if the database is SQLite, which uses the clock of this
/// machine, or if the database is unreachable. Another check reports an unreachable database.
pub(super) async fn check(mode: &Mode) -> Vec<Finding> {
    let Ok(store) = Store::connect_lazy(mode.database().expose()).await else { return Vec::new() };
    let node = NodeId::from_random(Rng::from_entropy().bytes());
    let redis = mode.redis().and_then(|url| Redis::new(url.expose(), node).ok());
    let mut findings = Vec::new();
    if let Some(skew) = Skew::new(store.clone(), redis.clone())
        && skew.measure_well().await.is_ok()
    {
        findings.push(assess(skew.skews()));
    }
    if let Some(redis) = redis {
        redis.quit().await;
    }
    store.close().await;
    findings
}

fn assess(skews: Skews) -> Finding {
    if let Some(skew) = skews.above(JOBS_LIMIT) {
        return Finding::wrong(format!("clocks: {skew}: above 30 s no node leads or runs jobs"));
    }
    match skews.above(REPORTED) {
        Some(skew) => Finding::risky(format!("clocks: {skew}: synchronise all clocks with NTP")),
        None if skews.redis.is_some() => Finding::good("clocks: this machine, SQL and Redis agree within 1 s"),
        None => Finding::good("clocks: this machine and SQL agree within 1 s"),
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
            assess(Skews { sql: skew(sql), redis: skew(redis), stores: skew(stores) })
        };
        assert_eq!(finding(0.9, -0.9, 0.0).severity, Severity::Good);
        let risky = finding(-1.5, 0.2, 1.7);
        assert_eq!(risky.severity, Severity::Risky);
        assert!(risky.text.contains("SQL's clock is 1.7 s ahead of Redis'"), "{}", risky.text);
        let wrong = finding(-31.0, 0.0, 31.0 - 0.5);
        assert_eq!(wrong.severity, Severity::Wrong);
        assert!(wrong.text.contains("this machine's clock is 31.0 s behind SQL's"), "{}", wrong.text);
        assert_eq!(assess(Skews::default()).severity, Severity::Good);
    }
}
