//! Looking after the duties from outside of the nodes: a command does it once.

use std::sync::Arc;

use super::{AppError, installation};
use crate::broker::redis::RedisBroker;
use crate::clock::{Chance, SystemClock};
use crate::config::RedisUrl;
use crate::domain::NodeId;
use crate::duties::{Duties, Settings};
use crate::presence::redis::RedisPresence;
use crate::redis::Redis;
use crate::store::Store;

/// The duties of stores whose nodes may be running. It is no node: it subscribes nothing, leads nobody, and leaves it to the nodes
/// to tell whoever is in a room that it was closed.
#[derive(Debug)]
pub struct Cleaner {
    duties: Duties,
    redis: Option<Redis>,
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
        let duties = Duties::new(store.clone(), Arc::new(SystemClock), settings);
        let Some(url) = redis else { return Ok(Self { duties, redis: None }) };
        let redis = Redis::new(url.expose(), NodeId::from_random(chance.bytes()))
            .map_err(|error| AppError::Url { flag: "redis-url", problem: error.details().to_owned() })?;
        installation::attach(&redis, &store).await.map_err(AppError::Redis)?;
        let broker = RedisBroker::new(redis.clone(), chance.clone(), 0);
        let presence = RedisPresence::new(redis.clone());
        Ok(Self { duties: duties.with_cluster(Arc::new(broker), Arc::new(presence)), redis: Some(redis) })
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
