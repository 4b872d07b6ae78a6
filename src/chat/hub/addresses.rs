//! Counts the sockets of each client address. All sockets of an address share a limit on bytes per second and a limit
//! on bytes per day.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use dashmap::{DashMap, Entry};
use tokio::time::Instant;

/// Initial and minimum value of a threshold. If there are more entries than the threshold, idle entries are removed. An
/// entry is idle if it has no sockets and its rate limits permit a full burst. After each removal, the threshold
/// becomes twice the number of remaining entries, but at least this value.
const KEPT: usize = 10_000;

/// Sockets and shared rates per address. After the last socket of an address has closed, the entry remains at least
/// until its rate limits permit a full burst. A client therefore does not obtain a new burst by reconnecting.
#[derive(Debug)]
pub(super) struct Addresses {
    entries: DashMap<IpAddr, Address>,
    sweep_above: AtomicUsize,
    started: Instant,
}

#[derive(Debug)]
struct Address {
    sockets: u32,
    paces: Arc<Paces>,
}

/// Limits on the byte rate, shared by the sockets of an address.
#[derive(Debug)]
pub struct Paces {
    /// Short-term rate.
    pub short: SharedPace,
    /// Rate whose burst is one day's volume.
    pub daily: SharedPace,
}

impl Paces {
    fn is_idle(&self, now: Instant) -> bool {
        self.short.is_idle(now) && self.daily.is_idle(now)
    }
}

impl Default for Addresses {
    fn default() -> Self {
        Self { entries: DashMap::new(), sweep_above: AtomicUsize::new(KEPT), started: Instant::now() }
    }
}

impl Addresses {
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr, limit: Option<u32>) -> Option<AddressSlot> {
        if self.entries.len() > self.sweep_above.load(Relaxed) {
            let now = Instant::now();
            self.entries.retain(|_, address| address.sockets > 0 || !address.paces.is_idle(now));
            self.sweep_above.store((2 * self.entries.len()).max(KEPT), Relaxed);
        }
        let pace = || SharedPace { started: self.started, busy_until: AtomicU64::new(0) };
        let mut entry = self
            .entries
            .entry(address)
            .or_insert_with(|| Address { sockets: 0, paces: Arc::new(Paces { short: pace(), daily: pace() }) });
        if limit.is_some_and(|limit| entry.sockets >= limit) {
            return None;
        }
        entry.sockets += 1;
        let paces = entry.paces.clone();
        drop(entry);
        Some(AddressSlot { addresses: self.clone(), address, paces })
    }

    fn leave(&self, address: IpAddr) {
        if let Entry::Occupied(mut entry) = self.entries.entry(address) {
            let left = entry.get().sockets.saturating_sub(1);
            entry.get_mut().sockets = left;
            if left == 0 && entry.get().paces.is_idle(Instant::now()) {
                entry.remove();
            }
        }
    }
}

/// Counts one socket towards the limit of its address until this guard is dropped.
#[derive(Debug)]
pub struct AddressSlot {
    addresses: Arc<Addresses>,
    address: IpAddr,
    paces: Arc<Paces>,
}

impl AddressSlot {
    /// Returns the limits that all sockets of this address share.
    pub fn paces(&self) -> &Arc<Paces> {
        &self.paces
    }
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        self.addresses.leave(self.address);
    }
}

/// Rate limiter shared by several sockets. Its state is the instant at which the bytes read so far would have arrived
/// at the allowed rate, in nanoseconds after `started`.
#[derive(Debug)]
pub struct SharedPace {
    started: Instant,
    busy_until: AtomicU64,
}

impl SharedPace {
    /// Adds `duration`, the time that the bytes just read take at the allowed rate.
    pub fn take(&self, now: Instant, duration: Duration) {
        let (now, duration) = (self.nanos(now), u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
        let add = |until: u64| Some(until.max(now).saturating_add(duration));
        // The update cannot fail, because the closure always returns `Some`.
        let _ = self.busy_until.fetch_update(Relaxed, Relaxed, add);
    }

    /// Returns the instant from which more bytes may be read, or `None` if they may be read now. `burst` is the time by
    /// which reads may be ahead of the allowed rate.
    pub fn next(&self, now: Instant, burst: Duration) -> Option<Instant> {
        let until = self.started + Duration::from_nanos(self.busy_until.load(Relaxed));
        let next = until.checked_sub(burst)?;
        (next > now).then_some(next)
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.busy_until.load(Relaxed) <= self.nanos(now)
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.started).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn sockets_are_counted_per_address() {
        let addresses = Arc::<Addresses>::default();
        let slot = addresses.admit(address(1), Some(1));
        assert!(slot.is_some() && addresses.admit(address(1), Some(1)).is_none());
        assert!(addresses.admit(address(2), Some(1)).is_some());
        drop(slot);
        assert!(addresses.entries.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn reconnecting_brings_no_new_burst() {
        let addresses = Arc::<Addresses>::default();
        let slot = addresses.admit(address(1), None).unwrap();
        slot.paces().short.take(Instant::now(), 3 * SECOND);
        drop(slot);
        let again = addresses.admit(address(1), None).unwrap();
        assert_eq!(again.paces().short.next(Instant::now(), SECOND), Some(Instant::now() + 2 * SECOND));
        drop(again);
        tokio::time::sleep(4 * SECOND).await;
        drop(addresses.admit(address(1), None));
        assert!(addresses.entries.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_may_send_again_are_removed_when_many_are_kept() {
        let addresses = Arc::<Addresses>::default();
        for number in 0..=KEPT as u32 {
            addresses.admit(address(number), None).unwrap().paces().short.take(Instant::now(), SECOND);
        }
        tokio::time::sleep(2 * SECOND).await;
        let _slot = addresses.admit(address(1), None);
        assert_eq!(addresses.entries.len(), 1);
    }
}
