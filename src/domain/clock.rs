//! Sources of the current time that tests can replace. Only this module reads the machine's clock.

mod agreement;
mod store;

use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use parking_lot::Mutex;

pub use agreement::Agreement;
pub use store::{Observed, Reading, StoreClock};

/// Source of the current time. It returns whole milliseconds, because all stored times have this resolution.
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// Returns the current time.
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // This is the only read of the real clock.
    fn now(&self) -> DateTime<Utc> {
        Utc::now().trunc_subsecs(3)
    }
}

/// Clock whose time changes only when a test changes it.
#[derive(Debug)]
pub struct ManualClock(Mutex<DateTime<Utc>>);

impl ManualClock {
    /// Creates a clock whose current time is `start`.
    pub fn new(start: DateTime<Utc>) -> Self {
        Self(Mutex::new(start.trunc_subsecs(3)))
    }

    /// Advances the clock.
    pub fn advance(&self, by: Duration) {
        *self.0.lock() += by;
    }

    /// Sets the clock to `now`, which may be earlier or later than the current time.
    pub fn set(&self, now: DateTime<Utc>) {
        *self.0.lock() = now.trunc_subsecs(3);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock()
    }
}
