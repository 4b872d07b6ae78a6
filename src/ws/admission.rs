//! Bounds the joins of a node: how many call the stores at a time, and how many wait for that.
//!
//! Without a bound, thousands of sockets that join at once slow each other down until all of them time out. Here
//! [`JOINS`] run at a time, a bounded number waits, and further ones are refused at once with the time after which
//! there will be a place.
//!
//! Places are given in turn to two lanes ([`Lane`]), within a lane in turn to addresses, and within an address in order of
//! arrival. When no place to wait is left, an arrival displaces the last waiter of the address that has the most, if the
//! arrival's own address has clearly fewer; a lane that holds less than half of the waiting places displaces from the other.
//! So one address can use the whole queue while it is alone, and a flood of new guests does not keep out those who
//! reconnect.
//!
//! **Invariant:** no lock is held across an await, and nothing here calls a store.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::clock::Chance;
use crate::metric;

/// Joins that call the stores at a time. While a node accepts thousands of connections, each step of a join waits behind
/// these: with 64 joins at a time a saturated node served a third of what it could.
const JOINS: usize = 256;

/// A join that has taken this long waits for a store, not for this node: it gives its place to the next, so that rooms on
/// a part of Redis that does not answer do not hold up the others.
pub(super) const SLOW: Duration = Duration::from_secs(1);

/// Joins that may have given their place away and still run.
const SLOW_JOINS: usize = JOINS / 4;

/// How long a join waits for its place before it is refused.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Bounds of the hint when to retry, before it is spread.
const MIN_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(30);

/// What a join is assumed to take until some were measured.
const FIRST_GUESS: Duration = Duration::from_millis(200);

/// The two kinds of joins that do not displace each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Clients that resume a conversation (`?after=`), and hosts.
    Established,
    /// Guests who open or reload a page.
    Fresh,
}

/// Why a join got no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overloaded {
    /// After which a place is expected: differs from one refused join to the next.
    pub(super) retry: Duration,
}

/// The joins of a node.
pub struct Admission {
    state: Mutex<State>,
    /// Joins that may wait.
    max_waiting: usize,
    chance: Chance,
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission").field("max_waiting", &self.max_waiting).finish_non_exhaustive()
    }
}

struct State {
    running: usize,
    slow: usize,
    lanes: [Queue; 2],
    next_lane: usize,
    next_id: u64,
    /// Smoothed duration of a join.
    duration: Duration,
    /// When the joins refused so far are expected to have returned and been served.
    booked_until: Instant,
}

/// The waiting joins of a lane, by address.
#[derive(Default)]
struct Queue {
    addresses: HashMap<IpAddr, VecDeque<Waiter>>,
    /// Addresses with waiters, in the order of their turns.
    turns: VecDeque<IpAddr>,
    len: usize,
}

struct Waiter {
    id: u64,
    decision: oneshot::Sender<Result<Place, Overloaded>>,
}

/// The right to call the stores; given back when it is dropped.
pub(super) struct Place {
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
    /// For a node on which `max_waiting` joins may wait.
    pub fn new(max_waiting: usize, chance: Chance) -> Arc<Self> {
        let state = State {
            running: 0,
            slow: 0,
            lanes: [Queue::default(), Queue::default()],
            next_lane: 0,
            next_id: 0,
            duration: FIRST_GUESS,
            booked_until: Instant::now(),
        };
        // Shown as 0 until a join waits.
        metrics::gauge!(metric::JOINS_WAITING).increment(0.0);
        Arc::new(Self { state: Mutex::new(state), max_waiting, chance })
    }

    /// Waits for a place; refused at once if too many wait. Dropped while it waits, it gives its place in the queue up.
    pub(super) async fn enter(self: &Arc<Self>, address: IpAddr, lane: Lane) -> Result<Place, Overloaded> {
        let (waiting, displaced) = {
            let mut state = self.state.lock();
            if state.running < JOINS {
                // A free place goes to the queue first, so this overtakes no waiter.
                state.running += 1;
                return Ok(self.place());
            }
            let displaced =
                state.make_room(address, lane, self.max_waiting).map_err(|Full| self.overloaded(&mut state))?;
            let retry = displaced.as_ref().map(|_| self.overloaded(&mut state));
            let (decision, decided) = oneshot::channel();
            let id = state.push(address, lane, decision);
            (Waiting { admission: self, address, lane, id, decided }, displaced.zip(retry))
        };
        if let Some((waiter, overloaded)) = displaced {
            // One that is no longer waited for needs no answer.
            let _ = waiter.decision.send(Err(overloaded));
        }
        waiting.decided().await
    }

    fn place(self: &Arc<Self>) -> Place {
        Place { admission: self.clone(), began: Instant::now(), holds: Holds::Running }
    }

    fn overloaded(&self, state: &mut State) -> Overloaded {
        let expected = state.book().max(MIN_RETRY);
        // Up to half as long again, so that those refused in one instant do not return in one.
        let spread = u64::try_from(expected.as_millis()).unwrap_or(u64::MAX) / 2;
        Overloaded { retry: expected + Duration::from_millis(self.chance.below(spread)) }
    }

    /// Gives a free place to the next that waits.
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
                // It stopped waiting meanwhile: the place is still there, and the next one's.
                Err(Ok(mut place)) => place.holds = Holds::Nothing,
                Err(Err(_)) => {}
            }
        }
    }
}

/// No place to wait.
struct Full;

impl State {
    fn waiting(&self) -> usize {
        self.lanes.iter().map(|queue| queue.len).sum()
    }

    /// Takes out the waiter that an arrival displaces, if there has to be one.
    fn make_room(&mut self, address: IpAddr, lane: Lane, max_waiting: usize) -> Result<Option<Waiter>, Full> {
        if self.waiting() < max_waiting {
            return Ok(None);
        }
        let [own, other] = match lane {
            Lane::Established => [0, 1],
            Lane::Fresh => [1, 0],
        };
        if self.lanes[own].len < max_waiting / 2 {
            return self.lanes[other].take_last_of_longest(0).map(Some).ok_or(Full);
        }
        let fewest = self.lanes[own].addresses.get(&address).map_or(0, VecDeque::len) + 2;
        self.lanes[own].take_last_of_longest(fewest).map(Some).ok_or(Full)
    }

    fn push(&mut self, address: IpAddr, lane: Lane, decision: oneshot::Sender<Result<Place, Overloaded>>) -> u64 {
        self.next_id += 1;
        self.lanes[lane as usize].push(address, Waiter { id: self.next_id, decision });
        metrics::gauge!(metric::JOINS_WAITING).increment(1.0);
        self.next_id
    }

    fn pop(&mut self) -> Option<Waiter> {
        let lane = self.next_lane;
        self.next_lane = 1 - lane;
        let next = self.lanes[lane].pop();
        next.or_else(|| self.lanes[1 - lane].pop())
    }

    /// Reserves the time of one more join after those that wait and those refused before; returns how far away it is.
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

impl Queue {
    fn push(&mut self, address: IpAddr, waiter: Waiter) {
        let waiters = self.addresses.entry(address).or_default();
        if waiters.is_empty() {
            self.turns.push_back(address);
        }
        waiters.push_back(waiter);
        self.len += 1;
    }

    /// The next of the address whose turn it is.
    fn pop(&mut self) -> Option<Waiter> {
        let address = self.turns.pop_front()?;
        let waiter = self.remove(address, |waiters| waiters.pop_front());
        if self.addresses.contains_key(&address) {
            self.turns.push_back(address);
        }
        waiter
    }

    /// The last of the address that has the most waiters, if these are at least `fewest`.
    fn take_last_of_longest(&mut self, fewest: usize) -> Option<Waiter> {
        let longest = self.addresses.iter().max_by_key(|(_, waiters)| waiters.len());
        let address = longest.filter(|(_, waiters)| waiters.len() >= fewest).map(|(address, _)| *address)?;
        let waiter = self.remove(address, VecDeque::pop_back);
        self.forget_turn(address);
        waiter
    }

    /// Takes out one that no longer waits; nothing happens if it has been decided.
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
            metrics::gauge!(metric::JOINS_WAITING).decrement(1.0);
        }
        taken
    }

    fn forget_turn(&mut self, address: IpAddr) {
        if !self.addresses.contains_key(&address) {
            self.turns.retain(|turn| *turn != address);
        }
    }
}

/// A join in the queue.
struct Waiting<'a> {
    admission: &'a Arc<Admission>,
    address: IpAddr,
    lane: Lane,
    id: u64,
    decided: oneshot::Receiver<Result<Place, Overloaded>>,
}

impl Waiting<'_> {
    async fn decided(mut self) -> Result<Place, Overloaded> {
        match tokio::time::timeout(WAIT_TIMEOUT, &mut self.decided).await {
            Ok(Ok(decision)) => decision,
            // The sender is dropped only with the queue.
            Ok(Err(_)) | Err(_) => Err(self.admission.overloaded(&mut self.admission.state.lock())),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.admission.state.lock().lanes[self.lane as usize].cancel(self.address, self.id);
    }
}

impl Place {
    /// Lets the next join begin while this one goes on, unless too many have done so.
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

impl Drop for Place {
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
