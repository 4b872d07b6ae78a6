//! Limits the number of joins on a node that call the stores concurrently, and the number that wait for a permit. A
//! join admits a new socket to its session.
//!
//! Without a limit, thousands of sockets that join at once slow each other down until all of them time out. With this
//! limit, at most [`JOINS`] joins hold a permit. A further join waits if it is expected to receive a permit within
//! [`MAX_EXPECTED_WAIT`] and the queue is below a configured length. Otherwise the queue is full.
//!
//! Permits are granted alternately to two classes ([`JoinClass`]). Within a class, addresses are served in turn; within
//! an address, joins are served in order of arrival.
//!
//! If the queue is full, a new join either displaces the last waiter of the address with the most waiters, or is
//! rejected at once, with the time after which a permit is expected to be free. If the class of the new join occupies
//! less than half of the queue, it displaces a waiter of the other class. Otherwise it displaces a waiter of its own
//! class, but only if its own address has at least two waiters fewer than the address of that waiter. One address can
//! therefore fill the queue only while no other address waits, and a class that occupies at most half of the queue
//! loses no waiter to the other class.
//!
//! **Invariant:** no lock is held across an await, and this module does not call a store.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::metrics::JoinMetrics;
use crate::domain::Rng;

/// Maximum number of joins that call the stores concurrently. While a node accepts thousands of connections, the tasks
/// of these connections delay each step of a join. Under such a load, a limit of 64 left two thirds of the capacity
/// unused.
const JOINS: usize = 256;

/// Time after which a join is assumed to wait for a store rather than for this node. The join then passes its permit to
/// the next one. As a result, joins on an unresponsive Redis shard do not delay other rooms.
pub(super) const SLOW: Duration = Duration::from_secs(1);

/// Maximum number of running joins that have passed on their permit.
const SLOW_JOINS: usize = JOINS / 4;

/// Maximum expected wait for a permit, based on the measured duration of joins. A join that is expected to wait longer
/// is rejected at once.
const MAX_EXPECTED_WAIT: Duration = Duration::from_secs(3);

/// Maximum time that a join waits for a permit before it is rejected. Reached, for example, if joins become slower
/// while it waits.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Bounds of the retry delay before randomisation.
const MIN_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(30);

/// Initial value of the smoothed duration of a join.
const FIRST_GUESS: Duration = Duration::from_millis(200);

/// Class of a join. A join displaces a waiter of the other class only while its own class occupies less than half of the
/// queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JoinClass {
    /// Clients that resume a conversation (`?after=`), and hosts.
    Established,
    /// Guests who open or reload a page.
    Fresh,
}

/// Error: the join was rejected because too many joins wait, or because it waited too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overloaded {
    /// Time after which a permit is expected to be available. It varies between rejected joins, so that they do not
    /// retry together.
    pub(super) retry: Duration,
}

/// Queue of the joins of a node, with a limit on concurrent joins.
pub struct Admission {
    state: Mutex<AdmissionState>,
    /// Maximum number of waiting joins.
    max_waiting: usize,
    rng: Rng,
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission").field("max_waiting", &self.max_waiting).finish_non_exhaustive()
    }
}

struct AdmissionState {
    running: usize,
    slow: usize,
    queues: [JoinQueue; 2],
    next_queue: usize,
    next_id: u64,
    /// Smoothed duration of a join.
    duration: Duration,
    /// Time at which all joins that were rejected so far are expected to have retried and completed.
    booked_until: Instant,
}

/// Waiting joins of one class, grouped by client address.
struct JoinQueue {
    addresses: HashMap<IpAddr, VecDeque<Waiter>>,
    /// Addresses with waiters, in the order in which they receive a permit.
    turns: VecDeque<IpAddr>,
    len: usize,
    metrics: Arc<JoinMetrics>,
}

struct Waiter {
    id: u64,
    decision: oneshot::Sender<Result<JoinPermit, Overloaded>>,
}

/// Permit to call the stores. It is released on drop.
pub(super) struct JoinPermit {
    admission: Arc<Admission>,
    began: Instant,
    holds: Holds,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Running,
    Slow,
    Nothing,
}

impl Admission {
    /// Creates the admission of a node. At most `max_waiting` joins may wait.
    pub fn new(max_waiting: usize, rng: Rng) -> Arc<Self> {
        let metrics = Arc::<JoinMetrics>::default();
        // Exports the gauge with the value 0 before the first join waits.
        metrics.waiting.increment(0.0);
        let state = AdmissionState {
            running: 0,
            slow: 0,
            queues: [JoinQueue::new(metrics.clone()), JoinQueue::new(metrics)],
            next_queue: 0,
            next_id: 0,
            duration: FIRST_GUESS,
            booked_until: Instant::now(),
        };
        Arc::new(Self { state: Mutex::new(state), max_waiting, rng })
    }

    /// Waits for a permit. Returns [`Overloaded`] if the queue is full, the waiter is displaced or the wait times out.
    /// Cancel safe: if the future is dropped, its entry is removed from the queue.
    pub(super) async fn enter(self: &Arc<Self>, address: IpAddr, class: JoinClass) -> Result<JoinPermit, Overloaded> {
        let (waiting, displaced) = {
            let mut state = self.state.lock();
            if state.running < JOINS {
                // If `running` is below the limit, no join is waiting, because `release` passes each freed permit to a
                // waiter first.
                state.running += 1;
                return Ok(self.place());
            }
            let max_waiting = state.max_waiting(self.max_waiting);
            let displaced = state.make_room(address, class, max_waiting).map_err(|Full| self.overloaded(&mut state))?;
            let retry = displaced.as_ref().map(|_| self.overloaded(&mut state));
            let (decision, decided) = oneshot::channel();
            let id = state.push(address, class, decision);
            (Waiting { admission: self, address, class, id, decided }, displaced.zip(retry))
        };
        if let Some((waiter, overloaded)) = displaced {
            // If the future of the waiter was dropped, no one needs the result.
            let _ = waiter.decision.send(Err(overloaded));
        }
        waiting.decided().await
    }

    fn place(self: &Arc<Self>) -> JoinPermit {
        JoinPermit { admission: self.clone(), began: Instant::now(), holds: Holds::Running }
    }

    fn overloaded(&self, state: &mut AdmissionState) -> Overloaded {
        let expected = state.book().max(MIN_RETRY);
        // The delay is extended by up to half, so that joins rejected together do not retry together.
        let spread = u64::try_from(expected.as_millis()).unwrap_or(u64::MAX) / 2;
        Overloaded { retry: expected + Duration::from_millis(self.rng.below(spread)) }
    }

    /// Passes a freed permit to the next waiter, if any.
    fn release(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.state.lock();
                let Some(next) = state.pop() else {
                    state.running -= 1;
                    return;
                };
                next
            };
            match next.decision.send(Ok(self.place())) {
                Ok(()) => return,
                // The waiter was cancelled after it left the queue, so its permit passes to the next waiter.
                Err(Ok(mut place)) => place.holds = Holds::Nothing,
                Err(Err(_)) => {}
            }
        }
    }
}

/// Error: the queue is full and the new join must not displace a waiter.
struct Full;

impl AdmissionState {
    fn waiting(&self) -> usize {
        self.queues.iter().map(|queue| queue.len).sum()
    }

    /// Returns how many joins may wait: at most `most`, and only as many as are expected to receive a permit within
    /// [`MAX_EXPECTED_WAIT`].
    fn max_waiting(&self, most: usize) -> usize {
        let each = (self.duration / JOINS as u32).max(Duration::from_nanos(1));
        let within = usize::try_from(MAX_EXPECTED_WAIT.as_nanos() / each.as_nanos()).unwrap_or(usize::MAX);
        most.min(within.max(1))
    }

    /// Removes and returns the waiter that a new join displaces. Returns `None` if the queue is not full, and [`Full`]
    /// if the join must not displace a waiter.
    fn make_room(&mut self, address: IpAddr, class: JoinClass, max_waiting: usize) -> Result<Option<Waiter>, Full> {
        if self.waiting() < max_waiting {
            return Ok(None);
        }
        let [own, other] = match class {
            JoinClass::Established => [0, 1],
            JoinClass::Fresh => [1, 0],
        };
        if self.queues[own].len < max_waiting / 2 {
            return self.queues[other].pop_last_of_longest(0).map(Some).ok_or(Full);
        }
        let fewest = self.queues[own].addresses.get(&address).map_or(0, VecDeque::len) + 2;
        self.queues[own].pop_last_of_longest(fewest).map(Some).ok_or(Full)
    }

    fn push(
        &mut self,
        address: IpAddr,
        class: JoinClass,
        decision: oneshot::Sender<Result<JoinPermit, Overloaded>>,
    ) -> u64 {
        self.next_id += 1;
        self.queues[class as usize].push(address, Waiter { id: self.next_id, decision });
        self.next_id
    }

    fn pop(&mut self) -> Option<Waiter> {
        let next = self.next_queue;
        self.next_queue = 1 - next;
        let waiter = self.queues[next].pop();
        waiter.or_else(|| self.queues[1 - next].pop())
    }

    /// Reserves time for one more join after all waiting and rejected joins. Returns the delay until the reserved time.
    fn book(&mut self) -> Duration {
        let now = Instant::now();
        let each = self.duration / JOINS as u32;
        let queue = each.saturating_mul(u32::try_from(self.waiting()).unwrap_or(u32::MAX)).min(MAX_RETRY);
        self.booked_until = (self.booked_until.max(now + queue) + each).min(now + MAX_RETRY);
        self.booked_until - now
    }

    fn measured(&mut self, took: Duration) {
        self.duration = (self.duration * 31 + took) / 32;
    }
}

impl JoinQueue {
    fn new(metrics: Arc<JoinMetrics>) -> Self {
        Self { addresses: HashMap::new(), turns: VecDeque::new(), len: 0, metrics }
    }

    fn push(&mut self, address: IpAddr, waiter: Waiter) {
        let waiters = self.addresses.entry(address).or_default();
        if waiters.is_empty() {
            self.turns.push_back(address);
        }
        waiters.push_back(waiter);
        self.len += 1;
        self.metrics.waiting.increment(1.0);
    }

    /// Removes and returns the first waiter of the next address.
    fn pop(&mut self) -> Option<Waiter> {
        let address = self.turns.pop_front()?;
        let waiter = self.remove(address, |waiters| waiters.pop_front());
        if self.addresses.contains_key(&address) {
            self.turns.push_back(address);
        }
        waiter
    }

    /// Removes and returns the last waiter of the address with the most waiters. Returns `None` if that address has
    /// fewer than `fewest` waiters.
    fn pop_last_of_longest(&mut self, fewest: usize) -> Option<Waiter> {
        let longest = self.addresses.iter().max_by_key(|(_, waiters)| waiters.len());
        let address = longest.filter(|(_, waiters)| waiters.len() >= fewest).map(|(address, _)| *address)?;
        let waiter = self.remove(address, VecDeque::pop_back);
        self.forget_turn(address);
        waiter
    }

    /// Removes a cancelled waiter. Has no effect if the waiter already has a result.
    fn cancel(&mut self, address: IpAddr, id: u64) {
        self.remove(address, |waiters| {
            let at = waiters.binary_search_by_key(&id, |waiter| waiter.id).ok()?;
            waiters.remove(at)
        });
        self.forget_turn(address);
    }

    fn remove(
        &mut self,
        address: IpAddr,
        take: impl FnOnce(&mut VecDeque<Waiter>) -> Option<Waiter>,
    ) -> Option<Waiter> {
        let waiters = self.addresses.get_mut(&address)?;
        let taken = take(waiters);
        if waiters.is_empty() {
            self.addresses.remove(&address);
        }
        if taken.is_some() {
            self.len -= 1;
            self.metrics.waiting.decrement(1.0);
        }
        taken
    }

    fn forget_turn(&mut self, address: IpAddr) {
        if !self.addresses.contains_key(&address) {
            self.turns.retain(|turn| *turn != address);
        }
    }
}

/// A queued join. Dropping it removes it from the queue.
struct Waiting<'a> {
    admission: &'a Arc<Admission>,
    address: IpAddr,
    class: JoinClass,
    id: u64,
    decided: oneshot::Receiver<Result<JoinPermit, Overloaded>>,
}

impl Waiting<'_> {
    async fn decided(mut self) -> Result<JoinPermit, Overloaded> {
        match tokio::time::timeout(WAIT_TIMEOUT, &mut self.decided).await {
            Ok(Ok(decision)) => decision,
            // The sender of the result is dropped without a result only if the queue is dropped.
            Ok(Err(_)) | Err(_) => Err(self.admission.overloaded(&mut self.admission.state.lock())),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.admission.state.lock().queues[self.class as usize].cancel(self.address, self.id);
    }
}

impl JoinPermit {
    /// Passes the permit to the next join while this join continues. Has no effect if the permit was already passed on
    /// or if too many joins have done so.
    pub(super) fn yield_to_next(&mut self) {
        {
            let mut state = self.admission.state.lock();
            if self.holds != Holds::Running || state.slow >= SLOW_JOINS {
                return;
            }
            state.slow += 1;
        }
        self.holds = Holds::Slow;
        self.admission.release();
    }
}

impl Drop for JoinPermit {
    fn drop(&mut self) {
        match self.holds {
            Holds::Running => {
                self.admission.state.lock().measured(self.began.elapsed());
                self.admission.release();
            }
            Holds::Slow => self.admission.state.lock().slow -= 1,
            Holds::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests;
