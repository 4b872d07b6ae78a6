//! Token bucket that limits how many messages or bytes are read from a socket per second. A socket above the rate is
//! read more slowly. No message is rejected, and the socket is not closed (DESIGN "Limits").

use std::time::Duration;

use tokio::time::Instant;

/// Sustained rate of messages or bytes, with a burst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Sustained number of messages or bytes per second.
    pub per_second: u32,
    /// Maximum number of messages or bytes in a burst.
    pub burst: u32,
}

/// Cost of a guest's `online` notice, in messages. The notice causes a read of the host's presence.
pub(super) const ONLINE_COST: u32 = 20;

/// Cost of a request of older messages, in messages.
pub(super) const REQUEST_COST: u32 = 4;

impl Rate {
    /// Returns how long `count` messages or bytes take at the sustained rate.
    pub(crate) fn span_of(self, count: u32) -> Duration {
        Duration::from_nanos(u64::from(count) * 1_000_000_000 / u64::from(self.per_second.max(1)))
    }
}

/// Token bucket, represented by the instant at which it is full again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenBucket {
    rate: Option<Rate>,
    full_at: Instant,
}

impl TokenBucket {
    pub(crate) fn new(rate: Option<Rate>, now: Instant) -> Self {
        Self { rate, full_at: now }
    }

    pub(crate) fn take(&mut self, now: Instant) {
        self.take_many(now, 1);
    }

    /// Takes `count` tokens. If fewer are available, the deficit delays the next token.
    pub(crate) fn take_many(&mut self, now: Instant, count: u32) {
        if let Some(rate) = self.rate {
            self.full_at = self.full_at.max(now) + rate.span_of(count);
        }
    }

    /// Returns the instant at which the next token is available; `None` if one is available now.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        let rate = self.rate?;
        // The bucket contains a token if it will be full within the time that `burst - 1` tokens take.
        let next = self.full_at.checked_sub(rate.span_of(rate.burst.saturating_sub(1)))?;
        (next > now).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_at_a_time() {
        let start = Instant::now();
        let mut throttle = TokenBucket::new(Some(Rate { per_second: 20, burst: 100 }), start);
        for _ in 0..100 {
            assert_eq!(throttle.next(start), None);
            throttle.take(start);
        }
        let next = throttle.next(start).expect("the bucket is empty");
        assert_eq!(next - start, Duration::from_millis(50));
        assert_eq!(throttle.next(next), None);
    }

    #[test]
    fn a_deficit_delays_the_next() {
        let start = Instant::now();
        let mut throttle = TokenBucket::new(Some(Rate { per_second: 1_000, burst: 4_000 }), start);
        throttle.take_many(start, 3_000);
        assert_eq!(throttle.next(start), None);
        throttle.take_many(start, 3_000);
        assert_eq!(throttle.next(start), Some(start + Duration::from_millis(2_001)));
    }

    #[test]
    fn without_a_rate_nothing_is_delayed() {
        let start = Instant::now();
        let mut throttle = TokenBucket::new(None, start);
        (0..10_000).for_each(|_| throttle.take(start));
        assert_eq!(throttle.next(start), None);
    }
}
