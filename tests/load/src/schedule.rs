//! Schedule of messages, which is fixed in advance. A delayed message does not delay the messages after it, and
//! latencies are measured from the scheduled time.

use std::time::Duration;

/// Evenly spaced times at which messages are sent, in nanoseconds since the start of the process.
#[derive(Debug)]
pub(crate) struct Schedule {
    start: u64,
    rate: f64,
    next: u64,
    total: u64,
}

impl Schedule {
    /// Creates a schedule of `rate` messages per second for the duration `span`. The first message is sent at `start`.
    pub(crate) fn new(start: u64, rate: f64, span: Duration) -> Self {
        Self { start, rate, next: 0, total: (rate * span.as_secs_f64()).round() as u64 }
    }

    /// Returns the time of the next message, or `None` after the last one.
    pub(crate) fn next_due(&self) -> Option<u64> {
        // The time is computed from the start, so rounding errors do not accumulate.
        (self.next < self.total).then(|| self.start + (self.next as f64 * 1e9 / self.rate).round() as u64)
    }

    /// Takes the next message if its time is not after `now`. Returns its number, counted from 0, and its time.
    pub(crate) fn take_due(&mut self, now: u64) -> Option<(u64, u64)> {
        let due = self.next_due().filter(|&due| due <= now)?;
        self.next += 1;
        Some((self.next - 1, due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedule_keeps_its_rate_to_the_end() {
        let mut schedule = Schedule::new(1_000, 300.0, Duration::from_secs(10));
        let mut last = (0, 0);
        let mut count = 0;
        while let Some(taken) = schedule.take_due(u64::MAX) {
            last = taken;
            count += 1;
        }
        assert_eq!((count, last), (3_000, (2_999, 1_000 + 9_996_666_667)));
        assert_eq!(schedule.next_due(), None);
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        let mut schedule = Schedule::new(5, 1e9, Duration::from_nanos(3));
        assert_eq!(schedule.take_due(4), None);
        assert_eq!(schedule.take_due(5), Some((0, 5)));
        assert_eq!(schedule.take_due(5), None);
        assert_eq!(schedule.next_due(), Some(6));
    }

    #[test]
    fn late_sender_sends_everything_with_the_scheduled_times() {
        let mut schedule = Schedule::new(0, 1_000.0, Duration::from_secs(1));
        let due: Vec<u64> = std::iter::from_fn(|| schedule.take_due(3_000_000).map(|(_, due)| due)).collect();
        assert_eq!(due, [0, 1_000_000, 2_000_000, 3_000_000]);
    }
}
