//! Detection of buses that deliver nothing to this node. The node publishes probes on each bus, in the same way as
//! messages. Without probes, a connected subscriber that receives nothing would look like a subscriber to an idle bus.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::backend::broker::Partition;
use crate::domain::NodeId;

/// Interval at which a probe is published on each bus.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// Maximum delay of a probe. A bus counts as silent if a probe has been missing for longer. The next probe is then
/// missing too.
const WAIT_LIMIT: Duration = Duration::from_secs(6);

/// State of the probes on one bus.
#[derive(Clone, Copy, Debug, Default)]
struct Probes {
    /// Time at which the oldest missing probe was published.
    missing_since: Option<Instant>,
    /// Whether a probe was received after the node last subscribed to the bus.
    received: bool,
    /// Time at which the newest probe was received.
    received_at: Option<Instant>,
}

/// State of the probes on all buses.
#[derive(Debug)]
pub(super) struct BusProbes {
    me: NodeId,
    buses: Mutex<Box<[Probes]>>,
    lost: AtomicBool,
}

impl BusProbes {
    pub(super) fn new(me: NodeId, partitions: u16) -> Self {
        let buses = Mutex::new(vec![Probes::default(); usize::from(partitions)].into());
        Self { me, buses, lost: AtomicBool::new(false) }
    }

    /// Records that a probe is about to be published. A probe that cannot be published counts as missing.
    pub(super) fn expect(&self, partition: Partition) {
        if let Some(bus) = self.buses.lock().get_mut(usize::from(partition.0)) {
            bus.missing_since.get_or_insert_with(Instant::now);
        }
    }

    /// Records that a probe was received over a bus. Probes of other nodes are ignored.
    pub(super) fn received_from(&self, node: &[u8], partition: u64) {
        let at = usize::try_from(partition).unwrap_or(usize::MAX);
        if self.is_me(node)
            && let Some(bus) = self.buses.lock().get_mut(at)
        {
            *bus = Probes { missing_since: None, received: true, received_at: Some(Instant::now()) };
        }
    }

    /// Returns whether `node` is the id of this node.
    pub(super) fn is_me(&self, node: &[u8]) -> bool {
        node == self.me.as_str().as_bytes()
    }

    /// Returns the age of the newest probe on the bus where this age is highest. Returns `None` until every bus has
    /// delivered a probe.
    pub(super) fn age(&self) -> Option<Duration> {
        let buses = self.buses.lock();
        let oldest = buses.iter().map(|bus| bus.received_at).min()??;
        Some(oldest.elapsed())
    }

    /// Returns a bus on which a probe has been missing for longer than [`WAIT_LIMIT`].
    pub(super) fn silent_bus(&self) -> Option<Partition> {
        let is_late = |bus: &Probes| bus.missing_since.is_some_and(|since| since.elapsed() > WAIT_LIMIT);
        self.buses.lock().iter().position(is_late).map(|at| Partition(at as u16))
    }

    /// Returns whether every bus has delivered a probe since the node last subscribed to it.
    pub(super) fn all_received(&self) -> bool {
        self.buses.lock().iter().all(|bus| bus.received)
    }

    /// Resets the probes after the node has subscribed to the buses again. Earlier probes then no longer count as
    /// received.
    pub(super) fn reset(&self) {
        for bus in &mut *self.buses.lock() {
            *bus = Probes { received_at: bus.received_at, ..Probes::default() };
        }
    }

    /// Returns whether this node receives publications. Returns `false` after a silent bus was detected, until all
    /// buses deliver probes again.
    pub(super) fn is_receiving(&self) -> bool {
        !self.lost.load(Relaxed)
    }

    pub(super) fn set_receiving(&self, is_receiving: bool) {
        self.lost.store(!is_receiving, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bus_is_found_silent_after_two_missing_probes() {
        const PARTITIONS: u16 = 16;
        let (me, other) = (NodeId::from_random([1; 16]), NodeId::from_random([2; 16]));
        let probes = BusProbes::new(me, PARTITIONS);
        for at in 0..4 {
            (0..PARTITIONS).for_each(|partition| probes.expect(Partition(partition)));
            for partition in 0..u64::from(PARTITIONS) {
                // After the first round, the bus of partition 7 delivers only the probes of another node.
                let node = if partition == 7 && at > 0 { other } else { me };
                probes.received_from(node.as_str().as_bytes(), partition);
            }
            assert_eq!(probes.silent_bus(), (at > 2).then_some(Partition(7)), "probe {at}");
            tokio::time::advance(PROBE_INTERVAL).await;
        }
        assert!(probes.all_received());
        assert_eq!(probes.age(), Some(4 * PROBE_INTERVAL));
        probes.reset();
        assert!(probes.silent_bus().is_none() && !probes.all_received());
        probes.received_from(me.as_str().as_bytes(), u64::MAX);
    }
}
