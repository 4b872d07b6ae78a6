use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// State that records whether the clock skew between this node and its stores is within the limit for leadership and
/// jobs. Clones share it.
///
/// A job must read its [`Clock`](super::Clock) before it checks the agreement. When a store's clock steps, the
/// agreement is revoked before the node's clock follows the step. A job that checks in this order therefore never uses
/// a stepped time.
#[derive(Clone, Debug)]
pub struct Agreement(Arc<AtomicBool>);

impl Agreement {
    /// Creates an agreement that holds from the start. It is intended for a node with a single clock, for example with
    /// SQLite.
    pub fn assumed() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// Creates an agreement that does not hold until it is set.
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
