//! Bounds the joins of a node: how many call the stores at a time, and how many wait for that.
//!
//! Without a bound, thousands of sockets that join at once slow each other down until all of them time out. Here
//! [`JOINS`] run at a time, a bounded number waits, and further ones are refused at once with the time after which a
//! place is expected.
//!
//! Places are granted alternately to two queues ([`JoinClass`]), within a class in turn to addresses, and within an address in
//! order of arrival. When the queue is full, an arrival displaces the last waiter of the address with the most waiters,
//! if the arrival's own address has at least two fewer. A class that has less than half of the queue displaces from the
//! other class. A single address can use the whole queue while it is alone, and a flood of new guests does not keep out
//! clients that reconnect.
//!
//! **Invariant:** no lock is held across an await, and nothing here calls a store.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::metrics::JoinMetrics;
use crate::domain::Rng;

/// Maximum number of joins that call the stores at a time. While a node accepts thousands of connections, each step of
/// a join waits behind these: with 64 joins, a saturated node served a third of its capacity.
const JOINS: usize = 256;

/// Time after which a join counts as waiting for a store, not for this node. It yields its place to the next, so that
/// rooms on a part of Redis that does not answer do not delay the others.
pub(super) const SLOW: Duration = Duration::from_secs(1);

/// Maximum number of joins that have yielded their place and still run.
const SLOW_JOINS: usize = JOINS / 4;

/// How long a join waits for its place before it is refused.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Bounds of the retry hint, before it is randomised.
const MIN_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(30);

/// Assumed duration of a join until the first is measured.
const FIRST_GUESS: Duration = Duration::from_millis(200);

/// Kind of a join. Joins of different queues do not displace each other beyond half of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JoinClass {
    /// Clients that resume a conversation (`?after=`), and hosts.
    Established,
    /// Guests who open or reload a page.
    Fresh,
}

/// Error of a join that was refused because too many wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overloaded {
    /// Time after which a place is expected. Differs between refused joins.
    pub(super) retry: Duration,
}

/// Limits and queues of a node's joins.
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
    /// When the joins refused so far are expected to have retried and completed.
    booked_until: Instant,
}

/// The waiting joins of a class, by address.
struct JoinQueue {
    addresses: HashMap<IpAddr, VecDeque<Waiter>>,
    /// Addresses with waiters, in the order in which they are served.
    turns: VecDeque<IpAddr>,
    len: usize,
    metrics: Arc<JoinMetrics>,
}

struct Waiter {
    id: u64,
    decision: oneshot::Sender<Result<JoinPermit, Overloaded>>,
}

/// The right to call the stores. Released when dropped.
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
    /// Creates the admission of a node on which `max_waiting` joins may wait.
    pub fn new(max_waiting: usize, rng: Rng) -> Arc<Self> {
        let metrics = Arc::<JoinMetrics>::default();
        // Exports the gauge as 0 until a join waits.
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

    /// Waits for a place. Refuses at once if too many wait. Cancel safe: a dropped future leaves the queue.
    pub(super) async fn enter(self: &Arc<Self>, address: IpAddr, class: JoinClass) -> Result<JoinPermit, Overloaded> {
        let (waiting, displaced) = {
            let mut state = self.state.lock();
            if state.running < JOINS {
                // A free place is granted to the queue first, so this overtakes no waiter.
                state.running += 1;
                return Ok(self.place());
            }
            let displaced =
                state.make_room(address, class, self.max_waiting).map_err(|Full| self.overloaded(&mut state))?;
            let retry = displaced.as_ref().map(|_| self.overloaded(&mut state));
            let (decision, decided) = oneshot::channel();
            let id = state.push(address, class, decision);
            (Waiting { admission: self, address, class, id, decided }, displaced.zip(retry))
        };
        if let Some((waiter, overloaded)) = displaced {
            // A waiter whose future was dropped needs no answer.
            let _ = waiter.decision.send(Err(overloaded));
        }
        waiting.decided().await
    }

    fn place(self: &Arc<Self>) -> JoinPermit {
        JoinPermit { admission: self.clone(), began: Instant::now(), holds: Holds::Running }
    }

    fn overloaded(&self, state: &mut AdmissionState) -> Overloaded {
        let expected = state.book().max(MIN_RETRY);
        // Randomised by up to half, so that joins refused together do not retry together.
        let spread = u64::try_from(expected.as_millis()).unwrap_or(u64::MAX) / 2;
        Overloaded { retry: expected + Duration::from_millis(self.rng.below(spread)) }
    }

    /// Grants a free place to the next waiter.
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
                // The waiter was cancelled meanwhile: grant the place to the next one.
                Err(Ok(mut place)) => place.holds = Holds::Nothing,
                Err(Err(_)) => {}
            }
        }
    }
}

/// Error: the queue has no place for an arrival.
struct Full;

impl AdmissionState {
    fn waiting(&self) -> usize {
        self.queues.iter().map(|queue| queue.len).sum()
    }

    /// Returns the waiter that an arrival displaces; `None` if the queue has a place.
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

    /// Reserves time for one more join, after the waiting and the refused ones. Returns the delay until then.
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

    /// Removes and returns the last waiter of the address with the most waiters, if it has at least `fewest`.
    fn pop_last_of_longest(&mut self, fewest: usize) -> Option<Waiter> {
        let longest = self.addresses.iter().max_by_key(|(_, waiters)| waiters.len());
        let address = longest.filter(|(_, waiters)| waiters.len() >= fewest).map(|(address, _)| *address)?;
        let waiter = self.remove(address, VecDeque::pop_back);
        self.forget_turn(address);
        waiter
    }

    /// Removes a waiter that was cancelled. Has no effect if its join was decided.
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

/// A join in the queue. Leaves the queue when dropped.
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
            // The sender is dropped only with the queue.
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
    /// Lets the next join begin while this one continues, unless too many have yielded.
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
