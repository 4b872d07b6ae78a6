//! Rate limits of a cluster. Each bucket is one key, and each operation is one script call.

use std::sync::Arc;

use async_trait::async_trait;
use fred::prelude::*;

use crate::backend::Unavailable;
use crate::backend::redis::{Redis, Script};
use crate::backend::throttle::{Kind, Quota, Throttle, Verdict, Who, micros};
use crate::domain::clock::Clock;

/// Driver of [`Throttle`] over Redis. Clones share the clients.
#[derive(Clone)]
pub struct RedisThrottle {
    redis: Redis,
    take: Arc<Script>,
    refund: Arc<Script>,
    clock: Option<Arc<dyn Clock>>,
}

impl std::fmt::Debug for RedisThrottle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisThrottle").field("redis", &self.redis).finish_non_exhaustive()
    }
}

impl RedisThrottle {
    /// Creates the driver over the node's clients. The driver uses the clock of Redis, so clock skew between nodes has
    /// no effect.
    pub fn new(redis: Redis) -> Self {
        let script = |text| Arc::new(Script::new(text));
        let (take, refund) = (script(include_str!("throttle/take.lua")), script(include_str!("throttle/refund.lua")));
        Self { redis, take, refund, clock: None }
    }

    fn key(&self, kind: Kind, who: &Who) -> Result<String, Unavailable> {
        Ok(self.redis.keys()?.shared(&format!("limit:{}:{who}", kind.name())))
    }

    /// Returns the time argument of the scripts, in µs since 1970. The argument is empty if the scripts must use the
    /// clock of Redis.
    fn now(&self) -> Value {
        let now = self.clock.as_ref().map(|clock| clock.now().timestamp_micros());
        now.map_or_else(String::new, |now| now.to_string()).into()
    }

    /// Replaces the clock of Redis with `clock`. Tests use this method.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }
}

#[async_trait]
impl Throttle for RedisThrottle {
    async fn take(&self, kind: Kind, who: &Who, quota: Quota) -> Result<Verdict, Unavailable> {
        let args: Vec<Value> = vec![quota.burst.into(), quota.interval.into(), self.now()];
        let answer = self.redis.eval(&self.take, self.key(kind, who)?, args).await?;
        let (passes, next_in) = answer.convert::<(bool, i64)>()?;
        Ok(Verdict { passes, next_in: micros(next_in) })
    }

    async fn refund(&self, kind: Kind, who: &Who, quota: Quota) -> Result<(), Unavailable> {
        let args: Vec<Value> = vec![quota.interval.into(), self.now()];
        self.redis.eval(&self.refund, self.key(kind, who)?, args).await?;
        Ok(())
    }
}
