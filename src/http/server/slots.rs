//! Bounds the TCP connections of a node: per address, and in total by the process's file descriptors.
//!
//! Above a bound, the longest idle connection (of the address, or of the node) is closed in favour of the new one. If
//! none is idle, the new connection gets one of a few reserved slots. There, health checks, `/metrics` and CORS
//! preflights are answered as usual, and everything else is refused. The longest idle connection in a reserved slot is
//! closed in the same way, so neither idle nor refused connections block a health check. Each bound has separate
//! reserved slots: an address above its bound occupies none that others need, and the listener never waits for a slot.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use dashmap::{DashMap, Entry};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::backend::throttle;
use crate::http::IsTrustedProxy;
use crate::http::metrics::{RefusalReason, TcpMetrics};

/// Number of slots reserved for a node at its bound, and for addresses at theirs.
const RESERVED: usize = 24;
const RESERVED_FOR_ADDRESSES: usize = 8;

/// Maximum number of connections waiting for a slot while the node is at its bound.
const QUEUE: usize = 8;

/// Number of connections above a bound that may be open until those closed in their favour have ended.
const OVERLAP: usize = 32;

/// Descriptors left to stores, files and reserved slots: a quarter, within these bounds.
const MIN_LEFT: u64 = 160;
const MAX_LEFT: u64 = 1_024;

/// How long a new connection waits for a reserved slot of the node.
const PATIENCE: Duration = Duration::from_millis(500);

/// Maximum number of idle connections searched for one of a given address.
const SEARCHED: usize = 1_024;

/// Maximum number of connections of `metrics-listen`.
const METRICS: usize = 32;

/// Bounds of the connections; see the module documentation.
pub struct Slots {
    served: Lane,
    over_address: Lane,
    over_node: Lane,
    queued: AtomicUsize,
    /// Number of served connections per address.
    addresses: DashMap<IpAddr, u32>,
    per_address: Option<u32>,
    is_exempt: IsTrustedProxy,
    metrics: Arc<TcpMetrics>,
}

impl std::fmt::Debug for Slots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slots")
            .field("served", &self.served)
            .field("per_address", &self.per_address)
            .finish_non_exhaustive()
    }
}

/// Permitted use of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// All requests.
    Served,
    /// Health checks, metrics and preflights only: the address is at its bound.
    OverAddress,
    /// Health checks, metrics and preflights only: the node is at its bound.
    OverNode,
}

impl Slots {
    /// Creates the bounds for a process with `descriptors` file descriptors. Exempt addresses are not counted per
    /// address.
    pub fn new(descriptors: u64, per_address: Option<u32>, is_exempt: IsTrustedProxy) -> Arc<Self> {
        let left = (descriptors / 4).clamp(MIN_LEFT, MAX_LEFT);
        let served = usize::try_from(descriptors.saturating_sub(left)).unwrap_or(usize::MAX).max(1);
        Self::with_bounds(served, [RESERVED, RESERVED_FOR_ADDRESSES], per_address, is_exempt)
    }

    /// Creates the bounds for the metrics listener.
    pub fn for_metrics() -> Arc<Self> {
        Self::with_bounds(METRICS, [0, 0], None, Arc::new(|_| true))
    }

    fn with_bounds(
        served: usize,
        [over_node, over_address]: [usize; 2],
        per_address: Option<u32>,
        is_exempt: IsTrustedProxy,
    ) -> Arc<Self> {
        let metrics = Arc::<TcpMetrics>::default();
        let lane = |limit| Lane::new(limit, metrics.clone());
        Arc::new(Self {
            served: lane(served),
            over_address: lane(over_address),
            over_node: lane(over_node),
            queued: AtomicUsize::new(0),
            addresses: DashMap::new(),
            per_address,
            is_exempt,
            metrics,
        })
    }

    /// Allocates a slot for a new connection.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Admission {
        match self.find(peer) {
            Ok(slot) => Admission::Now(slot),
            Err(Class::OverNode) if self.queued.fetch_add(1, Relaxed) < QUEUE => {
                Admission::Later(Queued { slots: self.clone(), peer })
            }
            Err(class) => {
                if class == Class::OverNode {
                    self.queued.fetch_sub(1, Relaxed);
                }
                self.count_refused(class);
                Admission::Never
            }
        }
    }

    /// Returns a slot, or the bound that prevents one.
    fn find(self: &Arc<Self>, peer: IpAddr) -> Result<Arc<Slot>, Class> {
        let address = (!(self.is_exempt)(peer.to_canonical())).then(|| throttle::network(peer));
        let of_address = address.and_then(|address| self.addresses.get(&address).map(|count| *count)).unwrap_or(0);
        let is_over = self.per_address.is_some_and(|limit| {
            of_address >= limit && !(of_address < limit.saturating_add(OVERLAP as u32) && self.served.shed(address))
        });
        let class = if is_over {
            Class::OverAddress
        } else if self.served.has_room() {
            Class::Served
        } else {
            Class::OverNode
        };
        if class != Class::Served {
            if !self.lane(class).has_room() {
                return Err(class);
            }
            self.count_refused(class);
        }
        self.lane(class).open.fetch_add(1, Relaxed);
        let address = address.filter(|_| class == Class::Served);
        if let Some(address) = address {
            *self.addresses.entry(address).or_default() += 1;
        }
        self.metrics.connections.increment(1.0);
        let slot = Slot { slots: self.clone(), class, address, ticket: AtomicU64::new(NO_TICKET), shed: Notify::new() };
        let slot = Arc::new(slot);
        slot.wait();
        Ok(slot)
    }

    /// Closes up to `count` idle connections, longest idle first.
    pub(super) fn shed(&self, count: usize) {
        for _ in 0..count {
            if !self.served.shed(None) {
                return;
            }
        }
    }

    /// Metrics of the connections.
    pub(super) fn metrics(&self) -> &TcpMetrics {
        &self.metrics
    }

    fn count_refused(&self, class: Class) {
        let reason = match class {
            Class::Served => return,
            Class::OverAddress => RefusalReason::Address,
            Class::OverNode => RefusalReason::Node,
        };
        self.metrics.refused.get(reason).increment(1);
    }

    fn lane(&self, class: Class) -> &Lane {
        match class {
            Class::Served => &self.served,
            Class::OverAddress => &self.over_address,
            Class::OverNode => &self.over_node,
        }
    }
}

/// Decision about a new connection.
pub(super) enum Admission {
    /// Admitted, with a slot.
    Now(Arc<Slot>),
    /// Waits for a slot, because connections closed in its favour end soon.
    Later(Queued),
    /// Dropped.
    Never,
}

/// Connection waiting for a slot.
pub(super) struct Queued {
    slots: Arc<Slots>,
    peer: IpAddr,
}

impl Queued {
    /// Waits for a slot. Returns `None` if the connection must be dropped.
    pub(super) async fn admit(self) -> Option<Arc<Slot>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let freed = self.slots.over_node.freed.notified();
            match self.slots.find(self.peer) {
                Ok(slot) => return Some(slot),
                Err(class) => {
                    if tokio::time::timeout_at(deadline, freed).await.is_err() {
                        self.slots.count_refused(class);
                        return None;
                    }
                }
            }
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.slots.queued.fetch_sub(1, Relaxed);
    }
}

/// Connection waiting for a request, with the address that it is counted under.
type Waiting = (Option<IpAddr>, Weak<Slot>);

/// Bound with the number of its connections and those waiting for a request.
struct Lane {
    limit: usize,
    open: AtomicUsize,
    next_ticket: AtomicU64,
    waiting: Mutex<BTreeMap<u64, Waiting>>,
    freed: Notify,
    metrics: Arc<TcpMetrics>,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("limit", &self.limit).field("open", &self.open).finish_non_exhaustive()
    }
}

impl Lane {
    fn new(limit: usize, metrics: Arc<TcpMetrics>) -> Self {
        Self {
            limit,
            open: AtomicUsize::new(0),
            next_ticket: AtomicU64::new(1),
            waiting: Mutex::default(),
            freed: Notify::new(),
            metrics,
        }
    }

    /// Whether there is room for one more connection. May close an idle one to make room.
    fn has_room(&self) -> bool {
        let open = self.open.load(Relaxed);
        open < self.limit || (open < self.limit + OVERLAP.min(self.limit) && self.shed(None))
    }

    /// Closes the connection that has waited longest for a request, of `address` if given. Returns whether there was
    /// one.
    fn shed(&self, address: Option<IpAddr>) -> bool {
        let longest = {
            let mut waiting = self.waiting.lock();
            let mut searched = waiting.iter().take(SEARCHED);
            let ticket = searched.find(|(_, (of, _))| address.is_none() || *of == address).map(|(ticket, _)| *ticket);
            ticket.and_then(|ticket| waiting.remove(&ticket))
        };
        longest.and_then(|(_, slot)| slot.upgrade()).is_some_and(|slot| {
            slot.shed.notify_one();
            self.metrics.refused.get(RefusalReason::Shed).increment(1);
            true
        })
    }
}

/// Ticket of a connection that is not waiting for a request.
const NO_TICKET: u64 = 0;

/// Counts a connection until it is dropped.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    class: Class,
    /// Address that the connection is counted under.
    address: Option<IpAddr>,
    /// Position among the connections waiting for a request.
    ticket: AtomicU64,
    shed: Notify,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("class", &self.class).finish_non_exhaustive()
    }
}

impl Slot {
    /// Metrics of the connections.
    pub(super) fn metrics(&self) -> &TcpMetrics {
        self.slots.metrics()
    }

    pub(crate) fn class(&self) -> Class {
        self.class
    }

    /// Marks the connection as waiting for a request, so that it may be closed in favour of another.
    pub(super) fn wait(self: &Arc<Self>) {
        let lane = self.slots.lane(self.class);
        let ticket = lane.next_ticket.fetch_add(1, Relaxed);
        let mut waiting = lane.waiting.lock();
        waiting.remove(&self.ticket.swap(ticket, Relaxed));
        waiting.insert(ticket, (self.address, Arc::downgrade(self)));
    }

    /// Marks the connection as having a request or being a socket, so that it is not closed.
    pub(crate) fn work(&self) {
        let ticket = self.ticket.swap(NO_TICKET, Relaxed);
        if ticket != NO_TICKET {
            self.slots.lane(self.class).waiting.lock().remove(&ticket);
        }
    }

    /// Whether the connection may be upgraded to a socket. A socket in a reserved slot is refused by a close code, but
    /// stays open until its peer closes it; such sockets use at most half of the reserved slots.
    pub(super) fn may_upgrade(&self) -> bool {
        if self.class == Class::Served {
            return true;
        }
        let lane = self.slots.lane(self.class);
        let busy = lane.open.load(Relaxed).saturating_sub(lane.waiting.lock().len());
        busy <= lane.limit / 2
    }

    /// Waits until the connection must be closed in favour of another.
    pub(super) async fn shed(&self) {
        self.shed.notified().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.work();
        let lane = self.slots.lane(self.class);
        lane.open.fetch_sub(1, Relaxed);
        lane.freed.notify_one();
        self.slots.metrics.connections.decrement(1.0);
        if let Some(address) = self.address
            && let Entry::Occupied(mut entry) = self.slots.addresses.entry(address)
        {
            *entry.get_mut() = entry.get().saturating_sub(1);
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_util::FutureExt as _;

    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(number))
    }

    fn slots(served: usize, reserved: usize, per_address: Option<u32>) -> Arc<Slots> {
        Slots::with_bounds(served, [reserved; 2], per_address, Arc::new(|peer| peer == address(1)))
    }

    fn is_shed(slot: &Slot) -> bool {
        slot.shed().now_or_never().is_some()
    }

    #[test]
    fn connections_are_counted_per_address_and_proxies_are_exempt() {
        let slots = slots(100, 8, Some(3));
        let of = |number, count| {
            let admit = |_| slots.find(address(number)).ok().inspect(|slot| slot.work());
            (0..count).map(admit).collect::<Vec<_>>()
        };
        let classes = |held: &[Option<Arc<Slot>>]| held.iter().flatten().map(|slot| slot.class()).collect::<Vec<_>>();
        let held = of(2, 11);
        assert_eq!(classes(&held), [vec![Class::Served; 3], vec![Class::OverAddress; 8]].concat());
        assert_eq!(classes(&of(3, 1)), [Class::Served]);
        assert_eq!(classes(&of(1, 20)), [Class::Served; 20]);
        drop(held);
        assert_eq!(classes(&of(2, 1)), [Class::Served]);
        assert!(slots.addresses.is_empty() && slots.served.waiting.lock().is_empty());
        assert_eq!((slots.served.open.load(Relaxed), slots.over_address.open.load(Relaxed)), (0, 0));
    }

    #[test]
    fn an_address_at_its_bound_gets_a_connection_for_one_of_its_idle_ones() {
        let slots = slots(100, 8, Some(2));
        let other = slots.find(address(3)).unwrap();
        let [first, second] = [2, 2].map(|number| slots.find(address(number)).unwrap());
        let third = slots.find(address(2)).unwrap();
        assert_eq!(third.class(), Class::Served);
        assert_eq!([&other, &first, &second].map(|slot| is_shed(slot)), [false, true, false]);
        [&second, &third].into_iter().for_each(|slot| slot.work());
        assert_eq!(slots.find(address(2)).unwrap().class(), Class::OverAddress);
    }

    #[test]
    fn the_longest_idle_connection_gives_way_and_busy_ones_stay() {
        let slots = slots(3, 2, None);
        let [first, second, third] = [2, 3, 4].map(|number| slots.find(address(number)).unwrap());
        first.work();
        second.work();
        second.wait();
        let fourth = slots.find(address(5)).unwrap();
        assert_eq!(fourth.class(), Class::Served);
        assert_eq!([&first, &second, &third].map(|slot| is_shed(slot)), [false, false, true]);
        drop(third);
        [&second, &fourth].into_iter().for_each(|slot| slot.work());
        let reserved = [6, 7].map(|number| slots.find(address(number)).unwrap());
        assert_eq!([reserved[0].class(), reserved[1].class()], [Class::OverNode; 2]);
        // Another reserved connection: the longest idle reserved one is closed.
        let newest = slots.find(address(8)).unwrap();
        assert_eq!(newest.class(), Class::OverNode);
        assert!(is_shed(&reserved[0]) && !is_shed(&reserved[1]) && !is_shed(&first));
        let busy = [&reserved[1], &newest];
        busy.into_iter().for_each(|slot| slot.work());
        assert!(matches!(slots.find(address(9)), Err(Class::OverNode)));
    }

    #[test]
    fn an_address_above_its_bound_takes_no_reserved_slot_of_the_node() {
        let slots = slots(4, 2, Some(2));
        let admit = |number| slots.find(address(number)).ok().inspect(|slot| slot.work());
        let flood: Vec<_> = (0..20).filter_map(|_| admit(2)).collect();
        assert_eq!(flood.len(), 4, "its two, and the reserved ones of addresses");
        let others: Vec<_> = (3..5).filter_map(admit).collect();
        assert!(others.iter().all(|slot| slot.class() == Class::Served) && others.len() == 2);
        // The node is at its bound now.
        assert_eq!(admit(5).map(|slot| slot.class()), Some(Class::OverNode));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_waits_for_a_slot_of_the_node_and_few_do() {
        let slots = slots(1, 1, None);
        let held = [2, 3].map(|number| {
            let slot = slots.find(address(number)).unwrap();
            slot.work();
            slot
        });
        let mut queue: Vec<_> = (0..QUEUE).map(|_| slots.admit(address(4))).collect();
        assert!(queue.iter().all(|admission| matches!(admission, Admission::Later(_))));
        assert!(matches!(slots.admit(address(4)), Admission::Never));
        let Some(Admission::Later(first)) = queue.pop() else { panic!("a place in the queue") };
        let waiting = tokio::spawn(first.admit());
        tokio::task::yield_now().await;
        let [_served, reserved] = held;
        drop(reserved);
        assert_eq!(waiting.await.unwrap().map(|slot| slot.class()), Some(Class::OverNode));
        let Some(Admission::Later(second)) = queue.pop() else { panic!("a place in the queue") };
        drop(queue);
        assert!(matches!(slots.admit(address(4)), Admission::Now(_)));
        drop(second);
        assert_eq!(slots.queued.load(Relaxed), 0);
    }

    #[test]
    fn a_quarter_of_the_descriptors_is_left_to_the_rest_of_the_process() {
        let limit = |descriptors| Slots::new(descriptors, None, Arc::new(|_| false)).served.limit;
        assert_eq!([limit(1_024), limit(65_536), limit(100)], [768, 64_512, 1]);
    }
}
