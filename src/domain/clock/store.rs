//! Estimate of the clock of a store (the database server or Redis).

use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use parking_lot::Mutex;

use super::{Clock, SystemClock};

/// Correction, in µs, above which the store's clock counts as stepped. A second consecutive reading must confirm a
/// step. Normal drift between two readings is below a millisecond.
const STEP: i64 = 1_000_000;

/// Resolution of the time that a store returns, in µs. The store truncates its time, so the true time is later by at
/// most this much.
const RESOLUTION: i64 = 1_000;

/// A reading of a store's clock, taken between `asked` and `answered`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Time that the store returned.
    pub shown: DateTime<Utc>,
    /// Time at which the request was sent.
    pub asked: Instant,
    /// Time at which the response was received.
    pub answered: Instant,
}

/// Effect of a reading on the estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// The estimate was already correct, was corrected by at most one second, or was set by the first reading.
    Followed,
    /// The reading differs from the expected time by this much. The estimate is unchanged until a second consecutive
    /// reading confirms the difference.
    Suspect(TimeDelta),
    /// A second consecutive reading confirmed that the store's clock stepped by this much.
    Stepped(TimeDelta),
}

/// Estimate of a store's clock. The estimate extrapolates from earlier readings with the monotonic clock of this
/// process.
///
/// Steps of the machine's clock have no effect. While the store is unavailable, the estimate continues from the last
/// reading. If the machine was suspended, the estimate lags by the length of the suspension until the next reading.
/// Before the first reading, the estimate is the machine's time.
///
/// A reading gives the earliest and the latest possible time of the store, which differ by the round trip. An estimate
/// outside these bounds is corrected to the nearest bound. An estimate within the bounds is unchanged, so a slow
/// response never increases the error.
#[derive(Debug)]
pub struct StoreClock {
    origin: Instant,
    state: Mutex<ClockState>,
}

#[derive(Debug, Default)]
struct ClockState {
    /// Time of the store at `origin`, in µs since 1970.
    offset: Option<i64>,
    suspect: bool,
}

impl Default for StoreClock {
    fn default() -> Self {
        Self { origin: Instant::now(), state: Mutex::default() }
    }
}

impl StoreClock {
    /// Corrects the estimate with a reading.
    pub fn observe(&self, reading: &Reading) -> Observed {
        let shown = reading.shown.timestamp_micros();
        let low = shown - self.since_origin(reading.answered);
        let high = shown + RESOLUTION - self.since_origin(reading.asked);
        let mut state = self.state.lock();
        let Some(offset) = state.offset else {
            state.offset = Some(low.midpoint(high));
            return Observed::Followed;
        };
        let corrected = offset.clamp(low, Ord::max(low, high));
        let by = corrected - offset;
        let is_step = by.abs() > STEP;
        if is_step && !state.suspect {
            state.suspect = true;
            return Observed::Suspect(TimeDelta::microseconds(by));
        }
        *state = ClockState { offset: Some(corrected), suspect: false };
        if is_step { Observed::Stepped(TimeDelta::microseconds(by)) } else { Observed::Followed }
    }

    /// Returns whether there has been at least one reading.
    pub fn is_measured(&self) -> bool {
        self.state.lock().offset.is_some()
    }

    fn at(&self, instant: Instant) -> Option<DateTime<Utc>> {
        let offset = self.state.lock().offset?;
        DateTime::from_timestamp_micros(offset + self.since_origin(instant))
    }

    fn since_origin(&self, instant: Instant) -> i64 {
        let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        micros(instant.saturating_duration_since(self.origin))
    }
}

impl Clock for StoreClock {
    fn now(&self) -> DateTime<Utc> {
        self.at(Instant::now()).map_or_else(|| SystemClock.now(), |now| now.trunc_subsecs(3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that reads the clock of a store. All times are in ms since the start of the node.
    struct Setup {
        clock: StoreClock,
        start: Instant,
        /// Time of the store at the start of the node.
        base: DateTime<Utc>,
    }

    impl Setup {
        fn new() -> Self {
            let clock = StoreClock::default();
            let start = clock.origin;
            Self { clock, start, base: DateTime::from_timestamp(1_700_000_000, 0).unwrap() }
        }

        fn instant(&self, millis: u64) -> Instant {
            self.start + Duration::from_millis(millis)
        }

        /// Reads the store's clock: the request is sent at `asked`, the store reads its clock at `read`, and the
        /// response is received at `answered`.
        fn read(&self, asked: u64, read: u64, answered: u64) -> Observed {
            let shown = self.base + Duration::from_millis(read);
            self.clock.observe(&Reading { shown, asked: self.instant(asked), answered: self.instant(answered) })
        }

        /// Returns the lead of the estimate over the store's clock, in ms.
        fn error(&self, at: u64) -> i64 {
            let shown = self.clock.at(self.instant(at)).unwrap();
            (shown - (self.base + Duration::from_millis(at))).num_milliseconds()
        }
    }

    #[test]
    fn unmeasured_clock_returns_the_time_of_the_machine() {
        let clock = StoreClock::default();
        assert!(!clock.is_measured());
        assert!((clock.now() - SystemClock.now()).abs() < TimeDelta::seconds(5));
    }

    #[test]
    fn clock_returns_the_time_of_the_store() {
        let setup = Setup::new();
        setup.read(100, 110, 120);
        assert!(setup.clock.is_measured());
        assert!(setup.error(120).abs() <= 10);
        assert!(setup.error(86_400_000).abs() <= 10, "the store is unavailable for a day");
        assert!(
            (setup.clock.now() - setup.base).num_seconds() < 60,
            "the time of the store differs from that of the machine by days"
        );
    }

    #[test]
    fn slow_reading_changes_nothing_and_a_fast_one_reduces_the_error() {
        let setup = Setup::new();
        // The store reads its clock at the end of a 400 ms round trip, so the error of the first estimate is 200 ms.
        setup.read(0, 400, 400);
        assert_eq!(setup.error(400).abs(), 200);
        setup.read(1_000, 1_001, 1_002);
        assert!(setup.error(1_002).abs() <= 2);
        for slow in [2_000, 4_000] {
            assert_eq!(setup.read(slow, slow + 1_900, slow + 1_900), Observed::Followed);
            assert_eq!(setup.read(slow, slow, slow + 1_900), Observed::Followed);
            assert!(setup.error(slow).abs() <= 2);
        }
    }

    #[test]
    fn drift_is_followed_in_small_corrections() {
        let mut setup = Setup::new();
        setup.read(0, 1, 2);
        for round in 1..1_000 {
            // The store's clock drifts by 200 ppm and is read every 5 s.
            setup.base += TimeDelta::milliseconds(1);
            let at = round * 5_000;
            assert_eq!(setup.read(at, at + 1, at + 2), Observed::Followed);
            assert!(setup.error(at + 2).abs() <= 3, "{}", setup.error(at + 2));
        }
    }

    #[test]
    fn a_step_takes_two_readings() {
        for step in [86_400_000, -86_400_000] {
            let mut setup = Setup::new();
            setup.read(0, 1, 2);
            let before = setup.clock.at(setup.instant(10));
            setup.base += TimeDelta::milliseconds(step);
            let near = |by: TimeDelta| (by.num_milliseconds() - step).abs() <= 5;
            assert!(matches!(setup.read(5_000, 5_001, 5_002), Observed::Suspect(by) if near(by)));
            assert_eq!(setup.clock.at(setup.instant(10)), before);
            assert!(matches!(setup.read(5_003, 5_004, 5_005), Observed::Stepped(by) if near(by)));
            assert!(setup.error(5_005).abs() <= 3);
            assert_eq!(setup.read(10_000, 10_001, 10_002), Observed::Followed);
        }
    }

    #[test]
    fn single_outlier_is_ignored() {
        let mut setup = Setup::new();
        setup.read(0, 1, 2);
        for round in 1..5 {
            setup.base += TimeDelta::hours(1);
            assert!(matches!(setup.read(round * 5_000, round * 5_000, round * 5_000 + 2), Observed::Suspect(_)));
            setup.base -= TimeDelta::hours(1);
            assert_eq!(setup.read(round * 5_000 + 10, round * 5_000 + 11, round * 5_000 + 12), Observed::Followed);
            assert!(setup.error(round * 5_000).abs() <= 3);
        }
    }

    #[test]
    fn clock_of_a_suspended_machine_is_correct_after_two_readings() {
        let mut setup = Setup::new();
        setup.read(0, 1, 2);
        setup.read(5_000, 5_001, 5_003);
        // The monotonic clock stops for an hour, as on a suspended machine.
        setup.base += TimeDelta::hours(1);
        assert!(matches!(setup.read(10_000, 10_001, 10_002), Observed::Suspect(_)));
        assert!(matches!(setup.read(10_003, 10_004, 10_005), Observed::Stepped(_)));
        assert!(setup.error(10_005).abs() <= 3);
    }
}
