//! Leader lease of a cluster: a key with an expiry time that stores the id of the holder.

use std::sync::Arc;

use async_trait::async_trait;
use fred::prelude::*;

use crate::backend::Unavailable;
use crate::backend::lease::{Lease, TTL};
use crate::backend::redis::{HOLD_LEASE, RELEASE_LEASE, Redis, Script};

/// Driver of [`Lease`] over Redis.
#[derive(Clone, Debug)]
pub struct RedisLease {
    redis: Redis,
    scripts: Arc<LeaseScripts>,
}

#[derive(Debug)]
struct LeaseScripts {
    hold: Script,
    release: Script,
}

impl RedisLease {
    /// Creates the driver. It acquires the lease for the node of `redis`.
    pub fn new(redis: Redis) -> Self {
        let scripts = LeaseScripts { hold: Script::new(HOLD_LEASE), release: Script::new(RELEASE_LEASE) };
        Self { redis, scripts: Arc::new(scripts) }
    }

    fn key(&self) -> Result<String, Unavailable> {
        Ok(self.redis.keys()?.shared("lease:leader"))
    }
}

#[async_trait]
impl Lease for RedisLease {
    async fn hold(&self) -> Result<bool, Unavailable> {
        let args: Vec<Value> = vec![self.redis.node().as_str().into(), (TTL.as_millis() as i64).into()];
        let held = self.redis.eval(&self.scripts.hold, self.key()?, args).await?;
        Ok(held.as_i64() == Some(1))
    }

    async fn release(&self) -> Result<(), Unavailable> {
        let args: Vec<Value> = vec![self.redis.node().as_str().into()];
        self.redis.eval(&self.scripts.release, self.key()?, args).await.map(|_| ())
    }
}
