//! Publishes account changes that a command made to the nodes of a running cluster.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{AppError, installation};
use crate::accounts::Announce;
use crate::backend::Unavailable;
use crate::backend::broker::Broker as _;
use crate::backend::redis::Redis;
use crate::backend::redis::broker::RedisBroker;
use crate::domain::NodeId;
use crate::domain::clock::Chance;
use crate::node::config::RedisUrl;
use crate::store::Store;

/// Publishes control events to a running cluster without joining it: no subscriptions, no lease.
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
    /// Connects to the Redis of a database's installation. If Redis is unavailable or belongs to another installation,
    /// [`close`](Self::close) returns the error.
    ///
    /// # Errors
    /// The URL is invalid.
    pub async fn connect(url: &RedisUrl, store: &Store, chance: &Chance) -> Result<Self, AppError> {
        let redis = Redis::new(url.expose(), NodeId::from_random(chance.bytes()))
            .map_err(|error| AppError::Url { flag: "redis-url", problem: error.details().to_owned() })?;
        let broker = RedisBroker::new(redis.clone(), chance.clone(), 0);
        let failure = Arc::new(Mutex::new(installation::attach(&redis, store).await.err()));
        Ok(Self { redis, broker, failure })
    }

    /// Returns the function through which [`Accounts`](crate::accounts::Accounts) announces changes.
    pub fn announce(&self) -> Announce {
        let (broker, failure) = (self.broker.clone(), self.failure.clone());
        Arc::new(move |control| {
            let (broker, failure) = (broker.clone(), failure.clone());
            Box::pin(async move {
                // After one failure, further announcements are skipped, so that the command does not wait for each.
                if failure.lock().is_some() {
                    return;
                }
                if let Err(error) = broker.announce(control).await {
                    failure.lock().get_or_insert(error);
                }
            })
        })
    }

    /// Closes the connection.
    ///
    /// # Errors
    /// The first announcement that failed or may have failed.
    pub async fn close(self) -> Result<(), Unavailable> {
        self.redis.quit().await;
        self.failure.lock().take().map_or(Ok(()), Err)
    }
}
