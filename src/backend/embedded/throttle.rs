//! Throttle driver of a single-node server.

use std::sync::Arc;

use async_trait::async_trait;

use crate::backend::Unavailable;
use crate::backend::throttle::{Buckets, Kind, Quota, Throttle, Verdict, Who};
use crate::domain::clock::Clock;

/// Driver of [`Throttle`] that keeps its buckets in memory. A restart of the process therefore resets all limits.
pub struct MemoryThrottle {
    buckets: Buckets,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for MemoryThrottle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryThrottle").finish_non_exhaustive()
    }
}

impl MemoryThrottle {
    /// Creates the driver with all buckets full.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { buckets: Buckets::default(), clock }
    }
}

#[async_trait]
impl Throttle for MemoryThrottle {
    async fn take(&self, kind: Kind, who: &Who, quota: Quota) -> Result<Verdict, Unavailable> {
        Ok(self.buckets.take(kind, who, quota, self.clock.now()))
    }

    async fn refund(&self, kind: Kind, who: &Who, quota: Quota) -> Result<(), Unavailable> {
        self.buckets.refund(kind, who, quota, self.clock.now());
        Ok(())
    }
}
