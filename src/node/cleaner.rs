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

/// Runs the leader's jobs on stores that running nodes may be using. A cleaner is not a node, so it has no lease and no
/// subscriptions. If it closes a room, the running nodes notify the connected clients.
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
    /// Returns an error if the URL is invalid, or if Redis is unavailable or belongs to another installation.
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
        // Without Redis, the database alone determines which rooms are due. The state of a single-node server is in the
        // memory of another process, which this command cannot read.
        let backend = redis.map(|redis| Backend::redis(redis, rng.clone(), RedisOptions::default()));
        if let Some(backend) = &backend {
            jobs = jobs.with_backend(backend);
        }
        Ok(Self { jobs, backend, skew })
    }

    /// Measures the clock skew of the stores, whose clocks determine which rows are due. Returns a description of the
    /// skew if it is above the limit for jobs, otherwise `None`.
    ///
    /// # Errors
    /// Returns [`StoreError`] if the clock of the database could not be read.
    pub async fn measure_skew(&self) -> Result<Option<String>, StoreError> {
        let Some(skew) = &self.skew else { return Ok(None) };
        skew.measure_well().await?;
        Ok(skew.skews().above(JOBS_LIMIT))
    }

    pub(crate) fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Closes the connection to Redis.
    pub async fn close(self) {
        if let Some(backend) = self.backend {
            backend.close().await;
        }
    }
}
