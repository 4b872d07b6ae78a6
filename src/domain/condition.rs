//! Log lines of conditions that last, for example an unavailable store: one line when the condition begins, one per
//! minute while it lasts, and one when it ends.

use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::Level;

/// Interval between the lines of a condition that lasts.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);

/// Minimum interval between two lines of one condition. A cause that changes is logged earlier than
/// [`REPEAT_INTERVAL`], but not earlier than this.
const CHANGE_INTERVAL: Duration = Duration::from_secs(5);

/// Condition that its owner observes repeatedly. It counts the failures and logs them at most once per minute.
///
/// All lines of a condition contain the same message. A line with `duration_s` reports that the condition still lasts.
#[derive(Debug)]
pub(crate) struct Condition {
    level: Level,
    /// Message of the lines while the condition lasts.
    began: &'static str,
    /// Message of the line when it ends.
    ended: &'static str,
    state: Mutex<Option<Lasting>>,
}

/// State of a condition while it lasts.
#[derive(Debug)]
struct Lasting {
    since: Instant,
    logged_at: Instant,
    logged_cause: String,
    failures: u64,
}

/// Line to be logged.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    /// Time since the condition began. `None` in the first line.
    lasted: Option<Duration>,
    failures: u64,
}

impl Condition {
    /// Creates a condition that is logged at level `warn`. `began` and `ended` are the messages of its lines.
    pub(crate) const fn warning(began: &'static str, ended: &'static str) -> Self {
        Self { level: Level::WARN, began, ended, state: Mutex::new(None) }
    }

    /// Creates a condition that is logged at level `error`.
    pub(crate) const fn error(began: &'static str, ended: &'static str) -> Self {
        Self { level: Level::ERROR, began, ended, state: Mutex::new(None) }
    }

    /// Counts a failure. Logs it if the condition begins, if its cause has changed, or if the last line is a minute old.
    /// `detail` is the original error.
    pub(crate) fn fail(&self, cause: &dyn fmt::Display, detail: &dyn fmt::Display) {
        let cause = cause.to_string();
        let Some(Line { lasted, failures }) = self.next_line(&cause, Instant::now()) else { return };
        let began = self.began;
        let (duration_s, failures) = (lasted.map(|lasted| lasted.as_secs()), lasted.map(|_| failures));
        if self.level == Level::ERROR {
            tracing::error!(cause, error = %detail, duration_s, failures, "{began}");
        } else {
            tracing::warn!(cause, error = %detail, duration_s, failures, "{began}");
        }
    }

    /// Ends the condition. Logs its duration if it had begun.
    pub(crate) fn end(&self) {
        let Some(Lasting { since, failures, .. }) = self.state.lock().take() else { return };
        let (ended, duration_s) = (self.ended, since.elapsed().as_secs_f64());
        let duration_s = (duration_s * 10.0).round() / 10.0;
        tracing::info!(duration_s, failures, "{ended}");
    }

    /// Returns whether the condition lasts.
    #[cfg(test)]
    fn lasts(&self) -> bool {
        self.state.lock().is_some()
    }

    fn next_line(&self, cause: &str, now: Instant) -> Option<Line> {
        let mut state = self.state.lock();
        let Some(lasting) = &mut *state else {
            *state = Some(Lasting { since: now, logged_at: now, logged_cause: cause.to_owned(), failures: 1 });
            return Some(Line { lasted: None, failures: 1 });
        };
        lasting.failures += 1;
        let is_changed = lasting.logged_cause != cause;
        if now - lasting.logged_at < if is_changed { CHANGE_INTERVAL } else { REPEAT_INTERVAL } {
            return None;
        }
        lasting.logged_at = now;
        cause.clone_into(&mut lasting.logged_cause);
        Some(Line { lasted: Some(now - lasting.since), failures: lasting.failures })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition() -> Condition {
        Condition::warning("store unavailable", "store available")
    }

    #[test]
    fn a_lasting_condition_is_logged_once_a_minute_with_its_failures() {
        let (condition, began) = (condition(), Instant::now());
        let lines: Vec<(u64, Line)> = (0..150)
            .filter_map(|second| Some((second, condition.next_line("refused", began + Duration::from_secs(second))?)))
            .collect();
        let line = |lasted| Line { lasted: Some(Duration::from_secs(lasted)), failures: lasted + 1 };
        assert_eq!(lines, [(0, Line { lasted: None, failures: 1 }), (60, line(60)), (120, line(120))]);
        assert!(condition.lasts());
        condition.end();
        assert!(!condition.lasts());
        let again = condition.next_line("refused", began + Duration::from_secs(151));
        assert_eq!(again, Some(Line { lasted: None, failures: 1 }));
    }

    #[test]
    fn a_changed_cause_is_logged_at_once_but_not_each_time_it_changes() {
        let (condition, began) = (condition(), Instant::now());
        let lines: Vec<u64> = (0..20)
            .filter(|second| {
                let cause = if *second < 7 || second % 2 == 0 { "refused" } else { "wrong password" };
                condition.next_line(cause, began + Duration::from_secs(*second)).is_some()
            })
            .collect();
        assert_eq!(lines, [0, 7, 12, 17]);
    }
}
