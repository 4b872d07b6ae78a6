//! Whether this node hears its buses. It says something on each of them, by the way that messages take, and listens for it: a
//! subscriber that is connected and hears nothing looks well in every other respect.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::PARTITIONS;
use crate::broker::Partition;
use crate::domain::NodeId;

/// How often something is said on each bus.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// How long a probe may be on its way: two are missed by then.
const PATIENCE: Duration = Duration::from_secs(6);

/// What a node has said and not heard, a bus.
#[derive(Debug)]
pub(super) struct Hearing {
    me: NodeId,
    /// When the oldest probe was published that has not come back.
    unheard: Mutex<[Option<Instant>; PARTITIONS as usize]>,
    /// The buses that brought a probe since they were subscribed.
    heard: Mutex<[bool; PARTITIONS as usize]>,
    /// When each bus last brought one.
    heard_at: Mutex<[Option<Instant>; PARTITIONS as usize]>,
    lost: AtomicBool,
}

impl Hearing {
    pub(super) fn new(me: NodeId) -> Self {
        Self {
            me,
            unheard: Mutex::default(),
            heard: Mutex::default(),
            heard_at: Mutex::default(),
            lost: AtomicBool::new(false),
        }
    }

    /// A probe goes out.
    pub(super) fn say(&self, partition: Partition) {
        if let Some(unheard) = self.unheard.lock().get_mut(usize::from(partition.0)) {
            unheard.get_or_insert_with(Instant::now);
        }
    }

    /// Redis has not taken it: there is nothing to hear.
    pub(super) fn take_back(&self, partition: Partition) {
        if let Some(unheard) = self.unheard.lock().get_mut(usize::from(partition.0)) {
            *unheard = None;
        }
    }

    /// A probe came over a bus.
    pub(super) fn heard(&self, node: &[u8], partition: u64) {
        let at = usize::try_from(partition).unwrap_or(usize::MAX);
        if self.is_me(node)
            && let Some(heard_at) = self.heard_at.lock().get_mut(at)
            && let (Some(unheard), Some(heard)) = (self.unheard.lock().get_mut(at), self.heard.lock().get_mut(at))
        {
            (*unheard, *heard, *heard_at) = (None, true, Some(Instant::now()));
        }
    }

    /// Whether that is this node's name.
    pub(super) fn is_me(&self, node: &[u8]) -> bool {
        node == self.me.as_str().as_bytes()
    }

    /// How long ago each bus has brought a probe: the longest. `None` before every one has.
    pub(super) fn age(&self) -> Option<Duration> {
        let heard_at = self.heard_at.lock();
        let oldest = heard_at.iter().min().copied()??;
        Some(oldest.elapsed())
    }

    /// A bus on which two probes were not heard.
    pub(super) fn deaf(&self) -> Option<Partition> {
        let is_late = |unheard: &Option<Instant>| unheard.is_some_and(|since| since.elapsed() > PATIENCE);
        self.unheard.lock().iter().position(is_late).map(|at| Partition(at as u16))
    }

    /// Whether a whole round of probes was said and has come back since the buses were subscribed.
    pub(super) fn has_heard_all(&self) -> bool {
        self.heard.lock().iter().all(|heard| *heard)
    }

    /// The buses are subscribed anew: what was said before counts no more.
    pub(super) fn start_again(&self) {
        *self.unheard.lock() = [None; PARTITIONS as usize];
        *self.heard.lock() = [false; PARTITIONS as usize];
    }

    /// Whether this node hears; not from when it was found deaf until it hears itself again.
    pub(super) fn hears(&self) -> bool {
        !self.lost.load(Relaxed)
    }

    /// Notes that it does, or does not.
    pub(super) fn set_hears(&self, hears: bool) {
        self.lost.store(!hears, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_hear_himself_on_a_bus_is_deaf_after_two_probes() {
        let (me, other) = (NodeId::from_random([1; 16]), NodeId::from_random([2; 16]));
        let hearing = Hearing::new(me);
        for at in 0..4 {
            (0..PARTITIONS).for_each(|partition| hearing.say(Partition(partition)));
            for partition in 0..u64::from(PARTITIONS) {
                // After the first, one bus brings only what others say.
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
