//! Looking after the duties from outside of the nodes: a command does it once.

use std::sync::Arc;

use super::{AppError, installation};
use crate::broker::redis::RedisBroker;
use crate::clock::{Agreement, Chance, Clock, SystemClock};
use crate::config::RedisUrl;
use crate::domain::NodeId;
use crate::duties::{Duties, Settings};
use crate::presence::redis::RedisPresence;
use crate::redis::Redis;
use crate::skew::{JOBS_LIMIT, Skew};
use crate::store::{Store, StoreError};

/// The duties of stores whose nodes may be running. It is no node: it subscribes nothing, leads nobody, and leaves it to the nodes
/// to tell whoever is in a room that it was closed.
#[derive(Debug)]
pub struct Cleaner {
    duties: Duties,
    redis: Option<Redis>,
    skew: Option<Skew>,
}

impl Cleaner {
    /// Over a database and, in a cluster, its Redis.
    ///
    /// # Errors
    /// A URL that cannot be read, or a Redis that is unavailable or not this installation's.
    pub async fn connect(
        store: Store,
        redis: Option<&RedisUrl>,
        settings: Settings,
        chance: &Chance,
    ) -> Result<Self, AppError> {
        let redis = redis.map(|url| Redis::new(url.expose(), NodeId::from_random(chance.bytes())));
        let redis = redis
            .transpose()
            .map_err(|error| AppError::Url { flag: "redis-url", problem: error.details().to_owned() })?;
        if let Some(redis) = &redis {
            installation::attach(redis, &store).await.map_err(AppError::Redis)?;
        }
        let skew = Skew::new(store.clone(), redis.clone());
        let clock: Arc<dyn Clock> = skew.as_ref().map_or_else(|| Arc::new(SystemClock), Skew::clock);
        let clocks = skew.as_ref().map_or_else(Agreement::assumed, Skew::agreement);
        let mut duties = Duties::new(store.with_clock(clock.clone()), clock, settings).while_clocks_agree(clocks);
        if let Some(redis) = &redis {
            let broker = RedisBroker::new(redis.clone(), chance.clone(), 0);
            duties = duties.with_cluster(Arc::new(broker), Arc::new(RedisPresence::new(redis.clone())));
        }
        Ok(Self { duties, redis, skew })
    }

    /// Reads the clocks of the stores, which the duties depend on. Returns why they may not run, if so.
    ///
    /// # Errors
    /// SQL could not be read.
    pub async fn measure_skew(&self) -> Result<Option<String>, StoreError> {
        let Some(skew) = &self.skew else { return Ok(None) };
        skew.measure_well().await?;
        Ok(skew.skews().above(JOBS_LIMIT))
    }

    /// What there is to do.
    pub fn duties(&self) -> &Duties {
        &self.duties
    }

    /// Hangs up.
    pub async fn close(self) {
        if let Some(redis) = self.redis {
            redis.quit().await;
        }
    }
}
