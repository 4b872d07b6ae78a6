//! Tracks the connections that share one limit, and which of them are waiting for a request.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{OVERLAP, Slot};
use crate::http::metrics::{RefusalReason, TcpMetrics};

/// Maximum number of idle connections that a search for a given address examines.
const SEARCHED: usize = 1_024;

/// Connection that waits for a request, and the address for which it is counted.
type WaitingSlot = (Option<IpAddr>, Weak<Slot>);

/// Group of connections with a common limit. Contains the number of open connections and the connections that wait for
/// a request.
pub(super) struct SlotGroup {
    pub(super) limit: usize,
    pub(super) open: AtomicUsize,
    next_ticket: AtomicU64,
    pub(super) waiting: Mutex<BTreeMap<u64, WaitingSlot>>,
    /// Notified when a connection of the group ends.
    pub(super) freed: Notify,
    metrics: Arc<TcpMetrics>,
}

impl std::fmt::Debug for SlotGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlotGroup").field("limit", &self.limit).field("open", &self.open).finish_non_exhaustive()
    }
}

impl SlotGroup {
    pub(super) fn new(limit: usize, metrics: Arc<TcpMetrics>) -> Self {
        Self {
            limit,
            open: AtomicUsize::new(0),
            next_ticket: AtomicU64::new(1),
            waiting: Mutex::default(),
            freed: Notify::new(),
            metrics,
        }
    }

    /// Returns whether the limit permits another connection. If necessary, closes an idle connection.
    pub(super) fn has_room(&self) -> bool {
        let open = self.open.load(Relaxed);
        open < self.limit || (open < self.limit + OVERLAP.min(self.limit) && self.shed(None))
    }

    /// Returns the number of connections that have a request or are sockets.
    pub(super) fn busy(&self) -> usize {
        self.open.load(Relaxed).saturating_sub(self.waiting.lock().len())
    }

    /// Returns the next position in the order of waiting connections.
    pub(super) fn next_ticket(&self) -> u64 {
        self.next_ticket.fetch_add(1, Relaxed)
    }

    /// Closes the connection that has waited longest for a request. If `address` is given, considers only connections
    /// of that address. Returns whether a connection was closed.
    pub(super) fn shed(&self, address: Option<IpAddr>) -> bool {
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
