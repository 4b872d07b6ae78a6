//! Limits the TCP connections of a node: per client address, and in total by the number of file descriptors of the
//! process.
//!
//! When a limit is reached, a new connection replaces the one that has been idle longest among the connections of the
//! same address or of the node. If no connection is idle, the new one receives a reserved slot.
//!
//! A connection in a reserved slot may send only health checks, `/metrics` requests and CORS preflights; other requests
//! are rejected. In a reserved slot, a new connection also replaces the one that has been idle longest, so that idle or
//! rejected connections do not block health checks. Each limit has its own reserved slots, so that an address at its
//! limit cannot occupy the reserved slots of the node. The listener never waits for a slot.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use dashmap::{DashMap, Entry};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::backend::throttle;
use crate::http::IsTrustedProxy;
use crate::http::metrics::{RefusalReason, TcpMetrics};

mod group;

use group::SlotGroup;

/// Number of reserved slots for a node at its limit, and number for addresses at their limit.
const RESERVED: usize = 24;
const RESERVED_FOR_ADDRESSES: usize = 8;

/// Maximum number of connections that wait for a slot while the node is at its limit.
const QUEUE: usize = 8;

/// Maximum number of connections by which a limit may be exceeded while replaced connections are being closed.
const OVERLAP: usize = 32;

/// Number of file descriptors that are reserved for stores, files and reserved slots: a quarter of all, within these
/// bounds.
const MIN_LEFT: u64 = 160;
const MAX_LEFT: u64 = 1_024;

/// Maximum time for which a new connection waits for a slot.
const QUEUE_TIMEOUT: Duration = Duration::from_millis(500);

/// Maximum number of connections of the metrics listener (`metrics-listen`).
const METRICS: usize = 32;

/// Limits on the connections of a node; see the module documentation.
pub struct Slots {
    served: SlotGroup,
    over_address: SlotGroup,
    over_node: SlotGroup,
    queued: AtomicUsize,
    /// Number of connections per address in regular slots.
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

/// Class of a slot, which determines the requests that its connection may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotClass {
    /// All requests are permitted.
    Served,
    /// Only health checks, metrics and preflights are permitted, because the address is at its limit.
    OverAddress,
    /// Only health checks, metrics and preflights are permitted, because the node is at its limit.
    OverNode,
}

impl Slots {
    /// Creates the limits of a process with `descriptors` file descriptors. Exempt addresses have no limit per address.
    pub fn new(descriptors: u64, per_address: Option<u32>, is_exempt: IsTrustedProxy) -> Arc<Self> {
        let left = (descriptors / 4).clamp(MIN_LEFT, MAX_LEFT);
        let served = usize::try_from(descriptors.saturating_sub(left)).unwrap_or(usize::MAX).max(1);
        Self::with_bounds(served, [RESERVED, RESERVED_FOR_ADDRESSES], per_address, is_exempt)
    }

    /// Creates the limits of the metrics listener.
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
        Arc::new(Self {
            served: SlotGroup::new(served, metrics.clone()),
            over_address: SlotGroup::new(over_address, metrics.clone()),
            over_node: SlotGroup::new(over_node, metrics.clone()),
            queued: AtomicUsize::new(0),
            addresses: DashMap::new(),
            per_address,
            is_exempt,
            metrics,
        })
    }

    /// Allocates a slot for a new connection.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> SlotAdmission {
        match self.find(peer) {
            Ok(slot) => SlotAdmission::Now(slot),
            Err(SlotClass::OverNode) if self.queued.fetch_add(1, Relaxed) < QUEUE => {
                SlotAdmission::Later(Queued { slots: self.clone(), peer })
            }
            Err(class) => {
                if class == SlotClass::OverNode {
                    self.queued.fetch_sub(1, Relaxed);
                }
                self.count_refused(class);
                SlotAdmission::Never
            }
        }
    }

    /// Returns a slot. If a limit is reached and all its reserved slots are busy, returns the class of these slots.
    fn find(self: &Arc<Self>, peer: IpAddr) -> Result<Arc<Slot>, SlotClass> {
        let address = (!(self.is_exempt)(peer.to_canonical())).then(|| throttle::network(peer));
        let of_address = address.and_then(|address| self.addresses.get(&address).map(|count| *count)).unwrap_or(0);
        let is_over = self.per_address.is_some_and(|limit| {
            of_address >= limit && !(of_address < limit.saturating_add(OVERLAP as u32) && self.served.shed(address))
        });
        let class = if is_over {
            SlotClass::OverAddress
        } else if self.served.has_room() {
            SlotClass::Served
        } else {
            SlotClass::OverNode
        };
        if class != SlotClass::Served {
            if !self.group(class).has_room() {
                return Err(class);
            }
            self.count_refused(class);
        }
        self.group(class).open.fetch_add(1, Relaxed);
        let address = address.filter(|_| class == SlotClass::Served);
        if let Some(address) = address {
            *self.addresses.entry(address).or_default() += 1;
        }
        self.metrics.connections.increment(1.0);
        let slot = Slot { slots: self.clone(), class, address, ticket: AtomicU64::new(NO_TICKET), shed: Notify::new() };
        let slot = Arc::new(slot);
        slot.wait();
        Ok(slot)
    }

    /// Closes at most `count` idle connections, starting with those that have been idle longest.
    pub(super) fn shed(&self, count: usize) {
        for _ in 0..count {
            if !self.served.shed(None) {
                return;
            }
        }
    }

    pub(super) fn metrics(&self) -> &TcpMetrics {
        &self.metrics
    }

    fn count_refused(&self, class: SlotClass) {
        let reason = match class {
            SlotClass::Served => return,
            SlotClass::OverAddress => RefusalReason::Address,
            SlotClass::OverNode => RefusalReason::Node,
        };
        self.metrics.refused.get(reason).increment(1);
    }

    fn group(&self, class: SlotClass) -> &SlotGroup {
        match class {
            SlotClass::Served => &self.served,
            SlotClass::OverAddress => &self.over_address,
            SlotClass::OverNode => &self.over_node,
        }
    }
}

/// Decision on a new connection.
pub(super) enum SlotAdmission {
    /// The connection is admitted and has a slot.
    Now(Arc<Slot>),
    /// The connection waits for a slot, because the node is at its limit and no reserved slot is free.
    Later(Queued),
    /// The connection must be closed.
    Never,
}

/// Connection that waits for a slot.
pub(super) struct Queued {
    slots: Arc<Slots>,
    peer: IpAddr,
}

impl Queued {
    /// Waits for a slot. Returns `None` if the connection must be closed.
    pub(super) async fn admit(self) -> Option<Arc<Slot>> {
        let deadline = Instant::now() + QUEUE_TIMEOUT;
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

/// Value of [`Slot::ticket`] while its connection is not waiting for a request.
const NO_TICKET: u64 = 0;

/// Slot of a connection. The slot is released on drop.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    class: SlotClass,
    /// Address for which the connection is counted; `None` if it is not counted.
    address: Option<IpAddr>,
    /// Position of the connection in the order in which connections started to wait for a request.
    ticket: AtomicU64,
    shed: Notify,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("class", &self.class).finish_non_exhaustive()
    }
}

impl Slot {
    pub(super) fn metrics(&self) -> &TcpMetrics {
        self.slots.metrics()
    }

    pub(crate) fn class(&self) -> SlotClass {
        self.class
    }

    /// Marks the connection as waiting for a request. A new connection may then replace it.
    pub(super) fn wait(self: &Arc<Self>) {
        let group = self.slots.group(self.class);
        let ticket = group.next_ticket();
        let mut waiting = group.waiting.lock();
        waiting.remove(&self.ticket.swap(ticket, Relaxed));
        waiting.insert(ticket, (self.address, Arc::downgrade(self)));
    }

    /// Marks the connection as busy, because it has a request or is a socket. It is then not closed to make space for
    /// another connection.
    pub(crate) fn work(&self) {
        let ticket = self.ticket.swap(NO_TICKET, Relaxed);
        if ticket != NO_TICKET {
            self.slots.group(self.class).waiting.lock().remove(&ticket);
        }
    }

    /// Returns whether the connection may be upgraded to a socket. A socket in a reserved slot is rejected with a close
    /// code, but occupies the slot until its peer closes it. Such sockets may occupy at most half of the reserved
    /// slots.
    pub(super) fn may_upgrade(&self) -> bool {
        if self.class == SlotClass::Served {
            return true;
        }
        let group = self.slots.group(self.class);
        group.busy() <= group.limit / 2
    }

    /// Waits until the connection must be closed, because a new connection replaces it or file descriptors are short.
    pub(super) async fn shed(&self) {
        self.shed.notified().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.work();
        let group = self.slots.group(self.class);
        group.open.fetch_sub(1, Relaxed);
        group.freed.notify_one();
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
mod tests;
