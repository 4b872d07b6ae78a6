use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Whether the clock skew between this node and its stores is within the limit for leadership and jobs. Clones share
/// the state.
///
/// A job must read its [`Clock`](super::Clock) first and check the agreement second, because the agreement is revoked
/// before the clock adopts a step of a store's clock.
#[derive(Clone, Debug)]
pub struct Agreement(Arc<AtomicBool>);

impl Agreement {
    /// Creates an agreement that always holds, for a node with only one clock, for example with SQLite.
    pub fn assumed() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// Creates an agreement that does not hold before the first measurement.
    pub(crate) fn unknown() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    /// Returns whether the clock skew is within the limit.
    pub fn holds(&self) -> bool {
        self.0.load(SeqCst)
    }

    /// Sets whether the clock skew is within the limit.
    pub(crate) fn set(&self, holds: bool) {
        self.0.store(holds, SeqCst);
    }
}
