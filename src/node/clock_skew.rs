//! Clock skew between this machine, the database and Redis.
//!
//! A timestamp is written and compared by the clock of the store that contains it ([`StoreClock`]), so skew alone
//! causes no errors. The skew is exported and logged, because logs and certificates depend on the clock of the machine.
//! In addition, a large skew means that a clock is wrong, possibly that of a store.
//!
//! If the skew is above [`JOBS_LIMIT`] or has not been measured yet, [`Agreement::holds`] returns `false`, and the node
//! neither leads nor runs jobs. Otherwise a wrong clock could cause rows to be deleted too early.

mod redis;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use parking_lot::Mutex;

use crate::backend::Unavailable;
use crate::backend::redis::Redis;
use crate::domain::clock::{Agreement, Clock, Observed, Reading, StoreClock, SystemClock};
use crate::domain::metric::{LabelValue as _, StoreKind};
use crate::node::metrics::ClockMetrics;
use crate::store::{Dialect, Store, StoreError};

/// Skew above which a warning is logged. It is also the threshold of the alert.
pub(crate) const REPORTED: TimeDelta = TimeDelta::seconds(1);

/// Skew above which the node neither leads nor runs jobs.
pub(crate) const JOBS_LIMIT: TimeDelta = TimeDelta::seconds(30);

/// Number of clock readings by a command that runs once. The error of the measurement is at most the shortest round
/// trip.
const READINGS_OF_A_COMMAND: usize = 3;

/// Measured skews. For a field documented as "A minus B", a positive value means that A is ahead. `None` means that the
/// skew has not been measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Skews {
    /// Clock of the machine minus clock of the database.
    pub(crate) sql: Option<TimeDelta>,
    /// Clock of the machine minus clock of Redis. With several Redis servers, the value with the largest magnitude.
    pub(crate) redis: Option<TimeDelta>,
    /// Clock of the database minus clock of Redis. With several Redis servers, the value with the largest magnitude.
    pub(crate) stores: Option<TimeDelta>,
}

impl Skews {
    /// Returns a description of the largest skew above `limit`; `None` if no skew is above it.
    pub(crate) fn above(&self, limit: TimeDelta) -> Option<String> {
        let named = [
            (self.sql, "this machine's clock", "SQL's"),
            (self.redis, "this machine's clock", "Redis'"),
            (self.stores, "SQL's clock", "Redis'"),
        ];
        let above = named.into_iter().filter_map(|(skew, clock, other)| Some((skew?, clock, other)));
        let (skew, clock, other) = above.filter(|(skew, ..)| skew.abs() > limit).max_by_key(|(skew, ..)| skew.abs())?;
        let side = if skew > TimeDelta::zero() { "ahead of" } else { "behind" };
        Some(format!("{clock} is {:.1} s {side} {other}", skew.abs().as_seconds_f64()))
    }
}

/// Measures the skew between the clocks of this machine, the database and Redis. Clones share the measurements.
#[derive(Clone)]
pub struct Skew {
    store: Store,
    redis: Option<Redis>,
    machine: Arc<dyn Clock>,
    sql: Arc<StoreClock>,
    agreement: Agreement,
    state: Arc<Mutex<SkewState>>,
    metrics: Arc<ClockMetrics>,
}

#[derive(Default)]
struct SkewState {
    /// Clock of each Redis server, by server address.
    redis: HashMap<String, StoreClock>,
    /// Whether the last reading of the database clock contradicts the earlier readings.
    suspect: bool,
    /// Whether the suspension of jobs has been logged.
    is_forbidden: bool,
    skews: Skews,
}

impl std::fmt::Debug for Skew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Skew").field("agreement", &self.agreement).finish_non_exhaustive()
    }
}

impl Skew {
    /// Creates the measurement for the servers of `store` and `redis`. Returns `None` for SQLite, which uses the clock
    /// of the machine.
    pub fn new(store: Store, redis: Option<Redis>) -> Option<Self> {
        let measures = store.dialect() == Dialect::MySql;
        measures.then(|| Self {
            store,
            redis,
            machine: Arc::new(SystemClock),
            sql: Arc::default(),
            agreement: Agreement::unknown(),
            state: Arc::default(),
            metrics: Arc::default(),
        })
    }

    /// Returns the clock of the database. Until [`measure`](Self::measure) has succeeded once, it returns the time of
    /// the machine.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.sql.clone()
    }

    /// Returns the [`Agreement`], which holds while the skew is within the limit for jobs. It does not hold before all
    /// clocks have been measured.
    pub fn agreement(&self) -> Agreement {
        self.agreement.clone()
    }

    pub(crate) fn skews(&self) -> Skews {
        self.state.lock().skews
    }

    /// Reads the clocks of the stores. Updates the estimated database clock, the agreement and the metrics.
    ///
    /// # Errors
    /// Returns [`StoreError`] if the clock of the database could not be read. If the clock of Redis could not be read,
    /// logs the error and keeps the last readings of Redis.
    pub async fn measure(&self) -> Result<(), StoreError> {
        let (sql, redis) = tokio::join!(self.read_sql(), self.read_redis());
        if let Err(error) = redis {
            tracing::debug!(%error, "failed to read redis clock");
        }
        self.judge();
        sql
    }

    /// Measures several times to reduce the error of the measurement. Commands that run once call this method.
    ///
    /// # Errors
    /// Returns [`StoreError`] if the clock of the database could not be read.
    pub async fn measure_well(&self) -> Result<(), StoreError> {
        for _ in 0..READINGS_OF_A_COMMAND {
            self.measure().await?;
        }
        Ok(())
    }

    /// Measures several times, like [`measure_well`](Self::measure_well), until a clock cannot be read within `limit`. The
    /// clocks that could not be read are missing from [`skews`](Self::skews).
    pub(crate) async fn measure_within(&self, limit: Duration) {
        for _ in 0..READINGS_OF_A_COMMAND {
            let sql = tokio::time::timeout(limit, self.read_sql());
            let (sql, redis) = tokio::join!(sql, tokio::time::timeout(limit, self.read_redis()));
            self.judge();
            if !matches!((sql, redis), (Ok(Ok(())), Ok(Ok(())))) {
                return;
            }
        }
    }

    async fn read_sql(&self) -> Result<(), StoreError> {
        // If a reading indicates that the clock was set, a second reading confirms or refutes this.
        while let Some(reading) = self.store.read_clock().await? {
            if !self.observe_sql(&reading) {
                break;
            }
        }
        Ok(())
    }

    /// Records a reading of the database clock. Returns whether the clock must be read again at once.
    fn observe_sql(&self, reading: &Reading) -> bool {
        let observed = self.sql.observe(reading);
        let suspect = matches!(observed, Observed::Suspect(_));
        self.state.lock().suspect = suspect;
        if suspect {
            // Jobs are suspended before the estimated clock adopts the new time. A job that then reads the new time is
            // rejected.
            self.forbid_jobs("sql clock stepped");
        }
        log_step("sql", observed);
        suspect
    }

    async fn read_redis(&self) -> Result<(), Unavailable> {
        let Some(redis) = &self.redis else { return Ok(()) };
        while self.observe_redis(&redis::readings(redis).await?) {}
        Ok(())
    }

    /// Records readings of the clocks of Redis servers. Returns whether the clocks must be read again at once.
    fn observe_redis(&self, readings: &[(String, Reading)]) -> bool {
        let mut state = self.state.lock();
        state.redis.retain(|server, _| readings.iter().any(|(read, _)| read == server));
        let mut again = false;
        for (server, reading) in readings {
            let observed = state.redis.entry(server.clone()).or_default().observe(reading);
            again |= matches!(observed, Observed::Suspect(_));
            log_step(server, observed);
        }
        again
    }

    fn forbid_jobs(&self, reason: &str) {
        self.agreement.set(false);
        if !std::mem::replace(&mut self.state.lock().is_forbidden, true) {
            tracing::warn!(error = reason, "clocks not reliable, leadership and jobs suspended");
        }
    }

    /// Exports and logs the skews. Suspends or resumes leadership and jobs when a skew crosses the limit.
    fn judge(&self) {
        let (before, now, suspect) = {
            let mut state = self.state.lock();
            let skews = self.skews_of(&state.redis);
            (std::mem::replace(&mut state.skews, skews), skews, state.suspect)
        };
        for (store, before, now) in [(StoreKind::Sql, before.sql, now.sql), (StoreKind::Redis, before.redis, now.redis)]
        {
            let Some(skew) = now else { continue };
            self.metrics.skew.get(store).set(skew.as_seconds_f64());
            let store = store.value();
            let is_large = |skew: TimeDelta| skew.abs() > REPORTED;
            let skew_s = skew.as_seconds_f64();
            match (before.is_some_and(is_large), is_large(skew)) {
                (false, true) => tracing::warn!(store, skew_s, "clock skew above 1 s"),
                (true, false) => tracing::info!(store, skew_s, "clock skew below 1 s"),
                _ => {}
            }
        }
        let complete = now.sql.is_some() && (self.redis.is_none() || now.redis.is_some());
        match now.above(JOBS_LIMIT) {
            Some(reason) => self.forbid_jobs(&reason),
            None if suspect || !complete => {}
            None => {
                self.agreement.set(true);
                if std::mem::take(&mut self.state.lock().is_forbidden) {
                    tracing::info!("clocks reliable, leadership and jobs resumed");
                }
            }
        }
    }

    fn skews_of(&self, redis: &HashMap<String, StoreClock>) -> Skews {
        let machine = self.machine.now();
        let sql = self.sql.is_measured().then(|| self.sql.now());
        let redis: Vec<_> = redis.values().filter(|clock| clock.is_measured()).map(Clock::now).collect();
        let furthest = |from| redis.iter().map(|redis| from - *redis).max_by_key(TimeDelta::abs);
        Skews { sql: sql.map(|sql| machine - sql), redis: furthest(machine), stores: sql.and_then(furthest) }
    }
}

/// Returns the clock with which a command timestamps and evaluates the data of `store`.
///
/// # Errors
/// Returns [`StoreError`] if the clock of the database could not be read.
pub async fn clock_of(store: &Store) -> Result<Arc<dyn Clock>, StoreError> {
    let Some(skew) = Skew::new(store.clone(), None) else { return Ok(Arc::new(SystemClock)) };
    skew.measure_well().await?;
    Ok(skew.clock())
}

fn log_step(store: &str, observed: Observed) {
    if let Observed::Stepped(by) = observed {
        tracing::warn!(store, step_s = by.as_seconds_f64(), "store clock stepped");
    }
}
