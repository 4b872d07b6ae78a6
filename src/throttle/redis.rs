//! The throttle of a cluster: a key a bucket, and one short script.

use std::sync::Arc;

use async_trait::async_trait;
use fred::prelude::*;

use super::{Kind, Quota, Throttle, Verdict, Who, micros};
use crate::broker::Unavailable;
use crate::clock::Clock;
use crate::redis::{Redis, Script};

/// The driver.
#[derive(Clone)]
pub struct RedisThrottle {
    redis: Redis,
    script: Arc<Script>,
    clock: Option<Arc<dyn Clock>>,
}

impl std::fmt::Debug for RedisThrottle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisThrottle").field("redis", &self.redis).finish_non_exhaustive()
    }
}

impl RedisThrottle {
    /// Over the node's clients, by the clock of Redis: nodes need not agree on the time.
    pub fn new(redis: Redis) -> Self {
        Self { redis, script: Arc::new(Script::new(include_str!("take.lua"))), clock: None }
    }

    /// By another clock, as tests have it.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }
}

#[async_trait]
impl Throttle for RedisThrottle {
    async fn take(&self, kind: Kind, who: &Who, quota: Quota) -> Result<Verdict, Unavailable> {
        let key = self.redis.keys()?.shared(&format!("limit:{}:{who}", kind.name()));
        let now = self.clock.as_ref().map(|clock| clock.now().timestamp_micros());
        let now = now.map_or_else(String::new, |now| now.to_string());
        let args: Vec<Value> = vec![quota.burst.into(), quota.interval.into(), now.into()];
        let answer = self.redis.eval(&self.script, key, args).await?;
        let (passes, next_in) = answer.convert::<(bool, i64)>()?;
        Ok(Verdict { passes, next_in: micros(next_in) })
    }
}
