//! Telling the nodes of a cluster from outside of it: a command changed an account.

use std::sync::Arc;

use parking_lot::Mutex;

use super::AppError;
use crate::accounts::Announce;
use crate::broker::redis::RedisBroker;
use crate::broker::{Broker as _, Unavailable};
use crate::clock::Chance;
use crate::config::RedisUrl;
use crate::domain::NodeId;
use crate::redis::Redis;

/// A voice on the nodes' channel. It is no node: it subscribes nothing and no lease is in its name.
pub struct Announcer {
    redis: Redis,
    broker: RedisBroker,
    failure: Arc<Mutex<Option<Unavailable>>>,
}

impl std::fmt::Debug for Announcer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Announcer").field("redis", &self.redis).finish_non_exhaustive()
    }
}

impl Announcer {
    /// Begins to connect.
    ///
    /// # Errors
    /// A URL that cannot be read.
    pub fn new(url: &RedisUrl, chance: &Chance) -> Result<Self, AppError> {
        let redis = Redis::new(url.expose(), NodeId::from_random(chance.bytes()))
            .map_err(|error| AppError::Url { flag: "redis-url", problem: error.details().to_owned() })?;
        let broker = RedisBroker::new(redis.clone(), chance.clone(), 0);
        Ok(Self { redis, broker, failure: Arc::default() })
    }

    /// What [`Accounts`](crate::accounts::Accounts) are to tell the nodes by.
    pub fn announce(&self) -> Announce {
        let (broker, failure) = (self.broker.clone(), self.failure.clone());
        Arc::new(move |control| {
            let (broker, failure) = (broker.clone(), failure.clone());
            Box::pin(async move {
                // Who is not told the first thing is not kept waiting for the others.
                if failure.lock().is_some() {
                    return;
                }
                if let Err(error) = broker.announce(control).await {
                    failure.lock().get_or_insert(error);
                }
            })
        })
    }

    /// Hangs up.
    ///
    /// # Errors
    /// The first thing that the nodes were not told, or may not have been.
    pub async fn close(self) -> Result<(), Unavailable> {
        self.redis.quit().await;
        self.failure.lock().take().map_or(Ok(()), Err)
    }
}
