use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Whether the clocks of this node and of its stores agree closely enough to lead and to run jobs. Clones share the answer.
///
/// A job reads its [`Clock`](super::Clock) first and asks this second: the answer turns to no before the clock follows a store
/// that stepped.
#[derive(Clone, Debug)]
pub struct Agreement(Arc<AtomicBool>);

impl Agreement {
    /// The clocks are one clock, as on a node with SQLite.
    pub fn assumed() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// Not measured yet.
    pub(crate) fn unknown() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    /// Whether they agree.
    pub fn holds(&self) -> bool {
        self.0.load(SeqCst)
    }

    /// Sets the answer.
    pub(crate) fn set(&self, holds: bool) {
        self.0.store(holds, SeqCst);
    }
}
