use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Whether the clocks of this node and of its stores agree closely enough to lead and to run jobs. Clones share the
/// state.
///
/// A job must read its [`Clock`](super::Clock) first and check the agreement second, because the agreement ends before
/// the clock follows a store whose clock stepped.
#[derive(Clone, Debug)]
pub struct Agreement(Arc<AtomicBool>);

impl Agreement {
    /// Creates an agreement that always holds, for a node with only one clock, as with SQLite.
    pub fn assumed() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// Creates an agreement that does not hold before the first measurement.
    pub(crate) fn unknown() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    /// Whether the clocks agree.
    pub fn holds(&self) -> bool {
        self.0.load(SeqCst)
    }

    /// Sets whether the clocks agree.
    pub(crate) fn set(&self, holds: bool) {
        self.0.store(holds, SeqCst);
    }
}
