//! Leader election. One node of a cluster runs the jobs that must run once per cluster. Every node campaigns for the
//! lease, and the node that holds it leads until the lease expires.
//!
//! **Invariant:** a node acts as leader for at most [`TTL`] after it *requested* its last renewal. A suspended node or
//! a late response therefore cannot extend its leadership. The node checks its own clock whenever it acts as leader,
//! without a call to the store.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backend::lease::{Lease, TTL};
use crate::domain::clock::Agreement;
use crate::node::metrics::LeaderMetrics;

/// Interval at which the leader renews its lease: a third of the duration of the lease.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(5);

/// Interval at which a node tries to acquire the lease if it does not hold the lease or its last request failed. After
/// a failure of the leader, a new leader exists after at most [`TTL`] plus this interval: 17 s.
const CAMPAIGN_INTERVAL: Duration = Duration::from_secs(2);

/// Leadership of this node. Clones share their state.
#[derive(Clone)]
pub struct Leader {
    lease: Arc<dyn Lease>,
    clocks: Agreement,
    until: Arc<Mutex<Option<Instant>>>,
    metrics: Arc<LeaderMetrics>,
}

impl std::fmt::Debug for Leader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leader").field("until", &self.until).finish_non_exhaustive()
    }
}

impl Leader {
    /// Creates the state of a node that is not leading.
    pub fn new(lease: Arc<dyn Lease>) -> Self {
        Self { lease, clocks: Agreement::assumed(), until: Arc::default(), metrics: Arc::default() }
    }

    /// Makes leadership depend on the clock skew. The node leads only while the skew has been measured and is within
    /// the limit. Otherwise it releases the lease.
    #[must_use]
    pub fn while_clocks_agree(mut self, clocks: Agreement) -> Self {
        self.clocks = clocks;
        self
    }

    /// Returns whether this node is leading now.
    pub fn is_leading(&self) -> bool {
        self.clocks.holds() && self.until.lock().is_some_and(|until| Instant::now() < until)
    }

    /// Campaigns for the lease until `stop` is cancelled, then releases the lease.
    pub async fn run(self, stop: CancellationToken) {
        let mut led = false;
        while !stop.is_cancelled() {
            let renewed = self.showing(&mut led, self.campaign()).await;
            let pause = tokio::time::sleep(if renewed { RENEWAL_INTERVAL } else { CAMPAIGN_INTERVAL });
            self.showing(&mut led, stop.run_until_cancelled(pause)).await;
        }
        self.step_down().await;
        self.show(led);
    }

    /// Runs `work` to completion. Updates the leader metric if the lease ends while `work` is running.
    async fn showing<T>(&self, led: &mut bool, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            *led = self.show(*led);
            let until = self.until.lock().filter(|_| *led);
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
            }
        }
    }

    /// Requests the lease once if the clock skew is within the limit. Returns whether the lease was granted.
    async fn campaign(&self) -> bool {
        if !self.clocks.holds() {
            self.step_down().await;
            return false;
        }
        let asked = Instant::now();
        match self.lease.hold().await {
            Ok(held) => {
                *self.until.lock() = held.then(|| asked + TTL);
                held
            }
            Err(error) => {
                // If this node is the leader, it remains so until its lease expires. No other node can acquire the
                // lease earlier.
                tracing::debug!(%error, "failed to acquire or renew leader lease");
                false
            }
        }
    }

    async fn step_down(&self) {
        if self.until.lock().take().is_some()
            && let Err(error) = self.lease.release().await
        {
            tracing::debug!(%error, "failed to release leader lease");
        }
    }

    /// Updates the leader metric and logs a change of leadership. Returns whether this node is leading.
    fn show(&self, led: bool) -> bool {
        let leads = self.is_leading();
        self.metrics.leader.set(u8::from(leads));
        match (led, leads) {
            (false, true) => tracing::info!("became leader"),
            (true, false) => tracing::info!("no longer leader"),
            _ => {}
        }
        leads
    }
}

#[cfg(test)]
mod tests;
