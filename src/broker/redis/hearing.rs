//! Whether this node receives what is published. It publishes a probe on each bus over the path of messages: a subscriber
//! that is connected and receives nothing looks healthy in every other respect.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::broker::Partition;
use crate::domain::NodeId;

/// How often a probe is published on each bus.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// How long a probe may be on its way: two are missed by then.
const PATIENCE: Duration = Duration::from_secs(6);

/// The probes of one bus.
#[derive(Clone, Copy, Debug, Default)]
struct Probes {
    /// When the oldest probe was due that has not been received.
    missing_since: Option<Instant>,
    /// Whether a probe was received since the bus was subscribed.
    received: bool,
    /// When the newest one was received.
    received_at: Option<Instant>,
}

/// The probes that this node has sent and received, per bus.
#[derive(Debug)]
pub(super) struct Hearing {
    me: NodeId,
    buses: Mutex<Box<[Probes]>>,
    lost: AtomicBool,
}

impl Hearing {
    pub(super) fn new(me: NodeId, partitions: u16) -> Self {
        let buses = Mutex::new(vec![Probes::default(); usize::from(partitions)].into());
        Self { me, buses, lost: AtomicBool::new(false) }
    }

    /// A probe is due. One that cannot be published is missing as well.
    pub(super) fn sends(&self, partition: Partition) {
        if let Some(bus) = self.buses.lock().get_mut(usize::from(partition.0)) {
            bus.missing_since.get_or_insert_with(Instant::now);
        }
    }

    /// A probe was received over a bus.
    pub(super) fn heard(&self, node: &[u8], partition: u64) {
        let at = usize::try_from(partition).unwrap_or(usize::MAX);
        if self.is_me(node)
            && let Some(bus) = self.buses.lock().get_mut(at)
        {
            *bus = Probes { missing_since: None, received: true, received_at: Some(Instant::now()) };
        }
    }

    /// Whether that is this node's name.
    pub(super) fn is_me(&self, node: &[u8]) -> bool {
        node == self.me.as_str().as_bytes()
    }

    /// The time since each bus last delivered a probe: the longest. `None` before every bus has delivered one.
    pub(super) fn age(&self) -> Option<Duration> {
        let buses = self.buses.lock();
        let oldest = buses.iter().map(|bus| bus.received_at).min()??;
        Some(oldest.elapsed())
    }

    /// A bus of which two probes are missing.
    pub(super) fn deaf(&self) -> Option<Partition> {
        let is_late = |bus: &Probes| bus.missing_since.is_some_and(|since| since.elapsed() > PATIENCE);
        self.buses.lock().iter().position(is_late).map(|at| Partition(at as u16))
    }

    /// Whether every bus has delivered a probe since it was subscribed.
    pub(super) fn has_heard_all(&self) -> bool {
        self.buses.lock().iter().all(|bus| bus.received)
    }

    /// The buses are subscribed anew: earlier probes do not count.
    pub(super) fn start_again(&self) {
        for bus in &mut *self.buses.lock() {
            *bus = Probes { received_at: bus.received_at, ..Probes::default() };
        }
    }

    /// Whether this node receives what is published; not from when a bus was found silent until all deliver again.
    pub(super) fn hears(&self) -> bool {
        !self.lost.load(Relaxed)
    }

    pub(super) fn set_hears(&self, hears: bool) {
        self.lost.store(!hears, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bus_is_found_silent_after_two_missing_probes() {
        const PARTITIONS: u16 = 16;
        let (me, other) = (NodeId::from_random([1; 16]), NodeId::from_random([2; 16]));
        let hearing = Hearing::new(me, PARTITIONS);
        for at in 0..4 {
            (0..PARTITIONS).for_each(|partition| hearing.sends(Partition(partition)));
            for partition in 0..u64::from(PARTITIONS) {
                // After the first, one bus delivers only the probes of others.
                let node = if partition == 7 && at > 0 { other } else { me };
                hearing.heard(node.as_str().as_bytes(), partition);
            }
            assert_eq!(hearing.deaf(), (at > 2).then_some(Partition(7)), "probe {at}");
            tokio::time::advance(PROBE_INTERVAL).await;
        }
        assert!(hearing.has_heard_all());
        assert_eq!(hearing.age(), Some(4 * PROBE_INTERVAL));
        hearing.start_again();
        assert!(hearing.deaf().is_none() && !hearing.has_heard_all());
        hearing.heard(me.as_str().as_bytes(), u64::MAX);
    }
}
