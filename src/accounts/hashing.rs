//! Queue for password hashing.
//!
//! Hashing occupies a core for tens of milliseconds. At most one password per core is hashed at a time, and the others
//! wait. Calls by the server itself have the highest priority. Known devices are next, followed by the addresses with
//! the fewest recent attempts. An address with continuous attempts therefore delays only itself. The queue is bounded:
//! when it is full, the entry with the lowest priority is rejected.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::backend::throttle::network;

/// Maximum number of waiting passwords: about one second of work for one core.
const MAX_WAITING: usize = 32;

/// Maximum waiting time of a password.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval at which the attempt counts of all addresses are halved.
const HALVING: Duration = Duration::from_secs(15);

/// Maximum number of addresses with an attempt count. When it is reached, all counts are halved.
const MAX_REMEMBERED: usize = 50_000;

/// Error of a call that was rejected because too many passwords wait for a core. The caller may retry later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Busy;

/// Origin of a call that hashes a password. Determines the priority of the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Network of the caller; `None` for the server itself.
    network: Option<IpAddr>,
    is_known_device: bool,
}

impl Source {
    /// Creates the origin of a call from a client at `address`. `is_known_device` states whether the device has been
    /// logged in to the account before.
    pub fn new(address: IpAddr, is_known_device: bool) -> Self {
        Self { network: Some(network(address)), is_known_device }
    }
}

/// Position in the queue: priority class of the caller, recent attempts of its network, order of arrival. The entry
/// with the lowest position is served first.
type QueuePosition = (u8, u32, u64);

/// Fixed number of hashing slots. Clones share the slots.
#[derive(Clone)]
pub(super) struct HashingSlots(Arc<Mutex<QueueState>>);

struct QueueState {
    free: usize,
    waiting: BTreeMap<QueuePosition, oneshot::Sender<HashingSlot>>,
    arrivals: u64,
    tries: HashMap<IpAddr, u32>,
    halved_at: Instant,
}

/// Slot that permits hashing one password. Dropping it passes the slot to the next waiter.
pub(super) struct HashingSlot(Option<HashingSlots>);

impl HashingSlots {
    pub(super) fn new(count: usize) -> Self {
        let (waiting, tries) = (BTreeMap::new(), HashMap::new());
        Self(Arc::new(Mutex::new(QueueState { free: count, waiting, arrivals: 0, tries, halved_at: Instant::now() })))
    }

    /// Waits up to `QUEUE_TIMEOUT` for a slot.
    ///
    /// # Errors
    /// Returns [`Busy`] if no slot becomes free in time, or if the queue is full and this entry has the lowest
    /// priority. The queue may also fill up while the call waits.
    pub(super) async fn acquire(&self, source: Source) -> Result<HashingSlot, Busy> {
        let (position, slot) = {
            let mut state = self.0.lock();
            let position = state.position(source);
            if state.free > 0 {
                state.free -= 1;
                return Ok(HashingSlot(Some(self.clone())));
            }
            if state.waiting.len() >= MAX_WAITING {
                match state.waiting.last_entry() {
                    // Dropping the sender rejects the waiter.
                    Some(last) if *last.key() > position => drop(last.remove()),
                    _ => return Err(Busy),
                }
            }
            let (sender, slot) = oneshot::channel();
            state.waiting.insert(position, sender);
            (position, slot)
        };
        let _place = QueuePlace { slots: self, position };
        match tokio::time::timeout(QUEUE_TIMEOUT, slot).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) | Err(_) => Err(Busy),
        }
    }
}

impl QueueState {
    fn position(&mut self, source: Source) -> QueuePosition {
        self.arrivals += 1;
        let Some(network) = source.network else { return (0, 0, self.arrivals) };
        if self.halved_at.elapsed() >= HALVING || self.tries.len() >= MAX_REMEMBERED {
            self.halved_at = Instant::now();
            self.tries.retain(|_, tries| {
                *tries /= 2;
                *tries > 0
            });
        }
        let tries = self.tries.entry(network).or_default();
        *tries = tries.saturating_add(1);
        (if source.is_known_device { 1 } else { 2 }, *tries, self.arrivals)
    }
}

/// Queue entry of a waiting caller. Dropping it removes the entry.
struct QueuePlace<'a> {
    slots: &'a HashingSlots,
    position: QueuePosition,
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        // The variable delays the drop of the sender until the lock is released.
        let _sender = self.slots.0.lock().waiting.remove(&self.position);
    }
}

impl Drop for HashingSlot {
    fn drop(&mut self) {
        let Some(slots) = self.0.take() else { return };
        loop {
            let next = {
                let mut state = slots.0.lock();
                let next = state.waiting.pop_first();
                if next.is_none() {
                    state.free += 1;
                }
                next
            };
            let Some((_, sender)) = next else { return };
            match sender.send(HashingSlot(Some(slots.clone()))) {
                Ok(()) => return,
                // The waiter was cancelled, so the loop tries the next one. With `None`, dropping `unused` does not
                // release the slot a second time.
                Err(mut unused) => unused.0 = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn from(last: u8) -> Source {
        Source::new(IpAddr::from([192, 0, 2, last]), false)
    }

    /// Polls the future once and returns whether it is pending.
    fn waits<F: Future>(future: &mut std::pin::Pin<Box<F>>) -> bool {
        future.as_mut().now_or_never().is_none()
    }

    #[tokio::test(start_paused = true)]
    async fn address_with_many_attempts_waits_behind_one_with_few() {
        let slots = HashingSlots::new(1);
        let busy = slots.acquire(from(1)).await.unwrap_or_else(|_| panic!("free"));
        let mut flood: Vec<_> = (0..20).map(|_| Box::pin(slots.acquire(from(1)))).collect();
        assert!(flood.iter_mut().all(waits));
        let mut other = Box::pin(slots.acquire(from(2)));
        assert!(waits(&mut other));
        let mut known = Box::pin(slots.acquire(Source::new(IpAddr::from([192, 0, 2, 3]), true)));
        assert!(waits(&mut known));
        drop(busy);
        let first = known.now_or_never().unwrap().unwrap_or_else(|_| panic!("the known device is first"));
        assert!(waits(&mut other));
        drop(first);
        let second = other.now_or_never().unwrap();
        assert!(second.is_ok() && flood.iter_mut().all(waits));
        drop(second);
        assert!(flood[0].as_mut().now_or_never().unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn full_queue_rejects_the_address_with_most_attempts() {
        let slots = HashingSlots::new(1);
        let _busy = slots.acquire(from(1)).await;
        let mut flood: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(slots.acquire(from(1)))).collect();
        assert!(flood.iter_mut().all(waits));
        assert!(matches!(slots.acquire(from(1)).await, Err(Busy)));
        let mut other = Box::pin(slots.acquire(from(2)));
        assert!(waits(&mut other), "replaces the last entry of the flood");
        assert!(matches!(flood.last_mut().unwrap().as_mut().now_or_never(), Some(Err(Busy))));
        assert!(flood[..MAX_WAITING - 1].iter_mut().all(waits));
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_waiter_leaks_no_slot_and_waiting_times_out() {
        let slots = HashingSlots::new(1);
        let busy = slots.acquire(from(1)).await;
        let mut left: Vec<_> = (0..5).map(|_| Box::pin(slots.acquire(from(1)))).collect();
        assert!(left.iter_mut().all(waits));
        drop(left);
        assert!(slots.0.lock().waiting.is_empty());
        assert!(matches!(slots.acquire(from(2)).await, Err(Busy)), "after the queue timeout");
        drop(busy);
        // A slot that was sent but not received is passed on.
        let held = slots.acquire(from(1)).await;
        let mut waiting = Box::pin(slots.acquire(from(1)));
        assert!(waits(&mut waiting));
        drop(held);
        drop(waiting);
        assert!(slots.acquire(from(3)).now_or_never().unwrap().is_ok());
    }
}
