//! Clock of a run. It measures nanoseconds since the start of the process, and formats the wall clock for messages.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, FixedOffset, Utc};

use crate::message::{Run, WALL_CLOCK};

/// Offset of the clients' wall clocks from UTC in seconds. It equals the server's default.
const WIRE_OFFSET: i32 = 9 * 60 * 60;

/// Clock of the process.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// Time from the Unix epoch to the start of this clock.
    epoch: Duration,
    /// Milliseconds since the Unix epoch for which `text` was formatted.
    shown: u128,
    text: [u8; WALL_CLOCK],
}

impl Clock {
    #[allow(clippy::disallowed_methods)] // the one place where the real clock is read
    pub(crate) fn start() -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), epoch, shown: 0, text: [b'0'; WALL_CLOCK] }
    }

    /// Returns the time since the start in nanoseconds.
    pub(crate) fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Returns the instant `at` nanoseconds after the start.
    pub(crate) fn instant(&self, at: u64) -> Instant {
        self.start + Duration::from_nanos(at)
    }

    /// Returns an id that distinguishes this run from other runs.
    pub(crate) fn run(&self) -> Run {
        self.epoch.as_millis() as Run ^ std::process::id().rotate_left(16)
    }

    /// Returns the wall clock at `now` as text. The text is formatted once per millisecond.
    pub(crate) fn wall(&mut self, now: u64) -> &[u8; WALL_CLOCK] {
        let at = self.epoch + Duration::from_nanos(now);
        if at.as_millis() != self.shown {
            self.shown = at.as_millis();
            let zone = FixedOffset::east_opt(WIRE_OFFSET);
            let utc = DateTime::<Utc>::from_timestamp_millis(at.as_millis() as i64);
            if let Some((utc, zone)) = utc.zip(zone) {
                let text = utc.with_timezone(&zone).format("%Y-%m-%dT%H:%M:%S%.3f").to_string();
                if let Ok(text) = text.as_bytes().try_into() {
                    self.text = text;
                }
            }
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_clock_is_nine_hours_ahead_of_utc_and_has_milliseconds() {
        let mut clock = Clock::start();
        clock.epoch = Duration::from_millis(1_679_559_307_123);
        assert_eq!(clock.wall(0), b"2023-03-23T17:15:07.123");
        assert_eq!(clock.wall(877_000_000), b"2023-03-23T17:15:08.000");
    }
}
