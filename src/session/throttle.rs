//! How fast a socket is read: a bucket of messages that fills steadily. Nothing is refused and nobody is closed for it; a socket
//! that writes faster is simply read no faster (DESIGN, limits).

use std::time::Duration;

use tokio::time::Instant;

/// Messages a second, and how many at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Sustained, a second.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

/// The bucket, as the instant at which it would be full again: eight bytes a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throttle {
    rate: Option<Rate>,
    full_at: Instant,
}

impl Throttle {
    pub(super) fn new(rate: Option<Rate>, now: Instant) -> Self {
        Self { rate, full_at: now }
    }

    /// Takes a message out of the bucket.
    pub(super) fn take(&mut self, now: Instant) {
        if let Some(rate) = self.rate {
            self.full_at = self.full_at.max(now) + Duration::from_secs(1) / rate.per_second.max(1);
        }
    }

    /// When the next message may be taken, if not now.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let rate = self.rate?;
        let each = Duration::from_secs(1) / rate.per_second.max(1);
        // With room for one more message the bucket is full again within what all but one of them take.
        let next = self.full_at.checked_sub(each * rate.burst.saturating_sub(1))?;
        (next > now).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_at_a_time() {
        let start = Instant::now();
        let mut throttle = Throttle::new(Some(Rate { per_second: 20, burst: 100 }), start);
        for _ in 0..100 {
            assert_eq!(throttle.next(start), None);
            throttle.take(start);
        }
        let next = throttle.next(start).expect("the bucket is empty");
        assert_eq!(next - start, Duration::from_millis(50));
        assert_eq!(throttle.next(next), None);
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let start = Instant::now();
        let mut throttle = Throttle::new(None, start);
        (0..10_000).for_each(|_| throttle.take(start));
        assert_eq!(throttle.next(start), None);
    }
}
