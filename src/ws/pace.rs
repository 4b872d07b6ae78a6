//! Limits the rate at which bytes are read from a socket. The socket has a rate of its own and shares two rates with
//! all sockets of its client address.

use std::sync::Arc;

use tokio::time::Instant;

use crate::chat::hub::{AddressSlot, Paces, SharedPace};
use crate::chat::session::{Rate, TokenBucket};

/// Maximum read rates in bytes per second. `None` means unlimited.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByteRates {
    /// Maximum rate of one socket.
    pub socket: Option<Rate>,
    /// Maximum rate of all sockets of one client address on this node.
    pub address: Option<Rate>,
    /// Maximum rate of all sockets of one client address on this node, with a burst of one day's volume.
    pub address_daily: Option<Rate>,
}

/// Rate limiter of one socket.
pub(super) struct Pace {
    socket: TokenBucket,
    address: Option<Arc<Paces>>,
    rates: ByteRates,
}

impl Pace {
    pub(super) fn new(rates: ByteRates, address: Option<&AddressSlot>) -> Self {
        let socket = TokenBucket::new(rates.socket, Instant::now());
        Self { socket, address: address.map(|slot| slot.paces().clone()), rates }
    }

    /// Records the bytes that a read returned.
    pub(super) fn read(&mut self, now: Instant, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.socket.take_many(now, bytes);
        let Some(paces) = &self.address else { return };
        if let Some(rate) = self.rates.address {
            paces.short.take(now, rate.span_of(bytes));
        }
        if let Some(rate) = self.rates.address_daily {
            paces.daily.take(now, rate.span_of(bytes));
        }
    }

    /// Returns the instant from which more bytes may be read; `None` if they may be read now.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let address = self.address.as_ref().and_then(|paces| {
            let next =
                |pace: &SharedPace, rate: Option<Rate>| pace.next(now, rate.map(|rate| rate.span_of(rate.burst))?);
            next(&paces.short, self.rates.address).max(next(&paces.daily, self.rates.address_daily))
        });
        self.socket.next(now).max(address)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::chat::hub::Hub;
    use crate::domain::Rng;

    /// Returns the total number of bytes that `sockets` sockets of one address read within `seconds`, in reads of 16
    /// KiB.
    async fn read_within(rates: ByteRates, sockets: usize, seconds: u64) -> usize {
        let hub = Hub::new(Rng::from_seed(1));
        let slot = hub.admit_address("192.0.2.1".parse().unwrap(), None).unwrap();
        let mut paces: Vec<Pace> = (0..sockets).map(|_| Pace::new(rates, Some(&slot))).collect();
        let (end, mut bytes) = (Instant::now() + Duration::from_secs(seconds), 0);
        while Instant::now() < end {
            for pace in &mut paces {
                if pace.next(Instant::now()).is_none() {
                    pace.read(Instant::now(), 16_384);
                    bytes += 16_384;
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_gets_its_burst_and_then_its_rate() {
        let rate = Rate { per_second: 16_384, burst: 262_144 };
        let rates = ByteRates { socket: Some(rate), ..ByteRates::default() };
        let bytes = read_within(rates, 1, 60).await;
        assert!((1_200_000..1_300_000).contains(&bytes), "{bytes}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_sockets_of_an_address_share_its_rate() {
        let rate = Rate { per_second: 1_048_576, burst: 1_048_576 };
        let rates = ByteRates { address: Some(rate), ..ByteRates::default() };
        let bytes = read_within(rates, 50, 10).await;
        assert!((11_000_000..13_000_000).contains(&bytes), "{bytes}");
        assert!(read_within(ByteRates::default(), 1, 1).await > 10_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_gets_its_daily_bytes_and_then_a_steady_trickle() {
        let rate = Rate { per_second: 1_000, burst: 4_000_000 };
        let bytes = read_within(ByteRates { address_daily: Some(rate), ..ByteRates::default() }, 50, 100).await;
        assert!((4_000_000..5_000_000).contains(&bytes), "{bytes}");
    }
}
