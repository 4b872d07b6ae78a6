//! Leading: one node of a cluster does by the clock what is to be done once. It campaigns, leads while its lease lasts, and
//! steps down.
//!
//! **Invariant:** a node calls itself leader for no longer than [`TTL`] from the moment in which it *asked* for the lease that it
//! was given last. It may be frozen in between, or be answered late: it knows without asking anybody.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Agreement;
use crate::lease::{Lease, TTL};
use crate::metric;

/// How often a leader renews his lease: a third of its life.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(5);

/// How often the others ask, and who was not answered: with [`TTL`], 17 s until somebody leads again.
const CAMPAIGN_INTERVAL: Duration = Duration::from_secs(2);

/// Whether this node leads. Clones are the same node.
#[derive(Clone)]
pub struct Leader {
    lease: Arc<dyn Lease>,
    clocks: Agreement,
    until: Arc<Mutex<Option<Instant>>>,
}

impl std::fmt::Debug for Leader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leader").field("until", &self.until).finish_non_exhaustive()
    }
}

impl Leader {
    /// A node that does not lead yet.
    pub fn new(lease: Arc<dyn Lease>) -> Self {
        Self { lease, clocks: Agreement::assumed(), until: Arc::default() }
    }

    /// Leads only while the clocks agree, and releases the lease when they do not.
    #[must_use]
    pub fn while_clocks_agree(mut self, clocks: Agreement) -> Self {
        self.clocks = clocks;
        self
    }

    /// Whether it leads now.
    pub fn is_leading(&self) -> bool {
        self.clocks.holds() && self.until.lock().is_some_and(|until| Instant::now() < until)
    }

    /// Asks for the lease, again and again until it is told to end; then gives it back.
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

    /// Does something, and tells meanwhile when the lease ends.
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

    /// Asks once, if the clocks agree. Whether the lease was given.
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
                // Nobody else has it before it ends.
                tracing::debug!(%error, "failed to renew leader lease");
                false
            }
        }
    }

    async fn step_down(&self) {
        if self.until.lock().take().is_some()
            && let Err(error) = self.lease.release().await
        {
            tracing::debug!(%error, "failed to release leader lease, it expires");
        }
    }

    /// Tells whether this node leads, and if that is new.
    fn show(&self, led: bool) -> bool {
        let leads = self.is_leading();
        metrics::gauge!(metric::LEADER).set(u8::from(leads));
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
