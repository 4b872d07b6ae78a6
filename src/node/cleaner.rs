//! Runs the leader's jobs once, for a command that is not part of a node.

use std::sync::Arc;

use super::{AppError, installation};
use crate::backend::{Backend, RedisOptions};
use crate::domain::Rng;
use crate::domain::clock::{Agreement, Clock, SystemClock};
use crate::node::clock_skew::{JOBS_LIMIT, Skew};
use crate::node::config::RedisUrl;
use crate::node::jobs::{Jobs, Settings};
use crate::store::{Store, StoreError};

/// Runs the leader's jobs on stores whose nodes may be running. A cleaner is not a node: it holds no lease and has no
/// subscriptions. The running nodes notify the connections of rooms that the cleaner closes.
#[derive(Debug)]
pub struct Cleaner {
    jobs: Jobs,
    backend: Option<Backend>,
    skew: Option<Skew>,
}

impl Cleaner {
    /// Connects to a database and, in a cluster, to its Redis.
    ///
    /// # Errors
    /// The URL is invalid, or Redis is unavailable or belongs to another installation.
    pub async fn connect(
        store: Store,
        redis: Option<&RedisUrl>,
        settings: Settings,
        rng: &Rng,
    ) -> Result<Self, AppError> {
        let redis = redis.map(|url| super::connect(url, rng)).transpose()?;
        if let Some(redis) = &redis {
            installation::attach(redis, &store).await.map_err(AppError::Redis)?;
        }
        let skew = Skew::new(store.clone(), redis.clone());
        let clock: Arc<dyn Clock> = skew.as_ref().map_or_else(|| Arc::new(SystemClock), Skew::clock);
        let clocks = skew.as_ref().map_or_else(Agreement::assumed, Skew::agreement);
        let mut jobs = Jobs::new(store.with_clock(clock.clone()), clock, settings).while_clocks_agree(clocks);
        // Without Redis, only SQL determines which rooms are due. The command cannot read the memory of a single-node
        // server.
        let backend = redis.map(|redis| Backend::redis(redis, rng.clone(), RedisOptions::default()));
        if let Some(backend) = &backend {
            jobs = jobs.with_backend(backend);
        }
        Ok(Self { jobs, backend, skew })
    }

    /// Measures the clock skew of the stores, because their clocks determine which rows are due. Returns a description
    /// of a skew above the limit for jobs, or `None`.
    ///
    /// # Errors
    /// The SQL clock could not be read.
    pub async fn measure_skew(&self) -> Result<Option<String>, StoreError> {
        let Some(skew) = &self.skew else { return Ok(None) };
        skew.measure_well().await?;
        Ok(skew.skews().above(JOBS_LIMIT))
    }

    /// Returns the jobs.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Closes the connection to Redis.
    pub async fn close(self) {
        if let Some(backend) = self.backend {
            backend.close().await;
        }
    }
}
