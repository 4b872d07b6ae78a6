//! Daily byte budgets of hosts for messages. Guests and the host's side have separate budgets, so that guests cannot
//! exhaust the budget of the host.
//!
//! A node counts a host's messages locally. Whenever it has accepted one chunk of bytes, it takes one chunk from the
//! shared budget. Redis is therefore called once per chunk instead of once per message. The budget can be exceeded by
//! one chunk per node and by the messages that arrive during the call to Redis.
//!
//! The budget is a token bucket: a full bucket holds the bytes of a day, and an empty one refills within a day. At most
//! twice the daily limit is therefore accepted in any 24 h. While Redis is unavailable, each node counts locally.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use dashmap::DashMap;
use tokio_util::task::TaskTracker;

use super::Limits;
use crate::backend::throttle::Quota;
use crate::domain::{HostId, Side};

const DAY: Duration = Duration::from_secs(86_400);

/// Number of budgets above which unused ones are removed. After a removal, the threshold is twice the number of
/// remaining budgets, but at least this value. Removing a budget discards its uncounted bytes, usually less than one
/// chunk.
const KEPT: usize = 50_000;

/// Byte limit of a host per day, and the size of the chunks that a node takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteQuota {
    pub(super) chunks: Quota,
    chunk: u64,
}

impl ByteQuota {
    /// Creates a quota of `bytes` per day.
    pub fn per_day(bytes: u64) -> Self {
        let chunk = (bytes / 64).clamp(1_024, 1_048_576);
        let count = u32::try_from(bytes / chunk).unwrap_or(u32::MAX).max(1);
        Self { chunks: Quota::new(count, DAY), chunk }
    }
}

/// Budgets of the hosts with sockets on this node.
#[derive(Clone, Debug)]
pub struct Budgets {
    limits: Arc<Limits>,
    hosts: Arc<DashMap<(HostId, Side), Arc<Budget>>>,
    sweep_above: Arc<AtomicUsize>,
    tracker: TaskTracker,
}

impl Budgets {
    /// Creates an empty set of budgets. Tasks on `tracker` take the chunks from `limits`.
    pub fn new(limits: Arc<Limits>, tracker: TaskTracker) -> Self {
        Self { limits, hosts: Arc::default(), sweep_above: Arc::new(AtomicUsize::new(KEPT)), tracker }
    }

    /// Returns the budget for one side of a host's rooms, or `None` if bytes are not limited.
    pub fn of(&self, host: HostId, side: Side) -> Option<HostBudget> {
        let chunk = self.limits.quotas.host_bytes?.chunk;
        if self.hosts.len() > self.sweep_above.load(Relaxed) {
            self.hosts.retain(|_, budget| Arc::strong_count(budget) > 1);
            self.sweep_above.store((2 * self.hosts.len()).max(KEPT), Relaxed);
        }
        let budget = self.hosts.entry((host, side)).or_default().clone();
        Some(HostBudget { host, side, chunk, budget, limits: self.limits.clone(), tracker: self.tracker.clone() })
    }
}

#[derive(Debug, Default)]
struct Budget {
    /// Accepted bytes not yet covered by a chunk.
    uncounted: AtomicU64,
    is_taking: AtomicBool,
    /// Time at which messages are accepted again, in µs since 1970; 0 while they are accepted.
    refused_until: AtomicI64,
}

/// Handle of one socket to the budget for one side of a host's rooms.
#[derive(Clone, Debug)]
pub struct HostBudget {
    host: HostId,
    side: Side,
    chunk: u64,
    budget: Arc<Budget>,
    limits: Arc<Limits>,
    tracker: TaskTracker,
}

impl HostBudget {
    /// Counts a message of `bytes` bytes.
    ///
    /// # Errors
    /// Returns the time until messages are accepted again.
    pub fn take(&self, bytes: usize) -> Result<(), Duration> {
        let budget = &self.budget;
        let until = budget.refused_until.load(Relaxed);
        if until != 0 {
            let left = until - self.limits.now();
            // If `left` is longer than a day, the clock has been set back, and messages are accepted again.
            if left > 0 && left <= DAY.as_micros() as i64 {
                return Err(Duration::from_micros(left as u64));
            }
            budget.refused_until.store(0, Relaxed);
        }
        let uncounted = budget.uncounted.fetch_add(bytes as u64, Relaxed) + bytes as u64;
        if uncounted >= self.chunk && !budget.is_taking.swap(true, Relaxed) {
            self.tracker.spawn(self.clone().take_chunks());
        }
        Ok(())
    }

    async fn take_chunks(self) {
        let Self { host, side, chunk, budget, limits, .. } = &self;
        while budget.uncounted.load(Relaxed) >= *chunk {
            match limits.host_bytes(*host, *side).await {
                Ok(()) => {
                    budget.uncounted.fetch_sub(*chunk, Relaxed);
                }
                Err(retry_after) => {
                    let until = limits.now() + i64::try_from(retry_after.as_micros()).unwrap_or(i64::MAX / 2);
                    budget.refused_until.store(until, Relaxed);
                    tracing::warn!(
                        host = host.0,
                        is_host = side.is_host(),
                        retry_after_s = retry_after.as_secs(),
                        "daily byte budget of host exhausted, rejecting messages"
                    );
                    break;
                }
            }
        }
        budget.is_taking.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Quotas;
    use super::*;
    use crate::backend::embedded::throttle::MemoryThrottle;
    use crate::domain::clock::{Clock, ManualClock, SystemClock};

    const MIB: u64 = 1_048_576;

    struct Cluster {
        clock: Arc<ManualClock>,
        nodes: Vec<Budgets>,
        tracker: TaskTracker,
    }

    impl Cluster {
        fn new(nodes: usize, bytes: u64) -> Self {
            let clock = Arc::new(ManualClock::new(SystemClock.now()));
            let quotas = Quotas { host_bytes: Some(ByteQuota::per_day(bytes)), ..Quotas::default() };
            let shared = Arc::new(MemoryThrottle::new(clock.clone()));
            let tracker = TaskTracker::new();
            let node = |_| Budgets::new(Arc::new(Limits::new(quotas, shared.clone(), clock.clone())), tracker.clone());
            Self { nodes: (0..nodes).map(node).collect(), clock, tracker }
        }

        /// Sends messages of 8 KiB on all nodes in turn until one is rejected. Returns the number of accepted bytes and
        /// the time until messages are accepted again.
        async fn send(&self, host: HostId) -> (u64, Duration) {
            let budgets: Vec<_> = self.nodes.iter().map(|node| node.of(host, Side::Guest).unwrap()).collect();
            let mut sent = 0;
            for budget in budgets.iter().cycle() {
                match budget.take(8_192) {
                    Ok(()) => sent += 8_192,
                    Err(retry) => return (sent, retry),
                }
                // Yielding lets the spawned tasks take their chunks from the shared budget.
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
                assert!(sent < 10_000 * MIB, "no message was rejected");
            }
            unreachable!("a cycle does not end")
        }
    }

    #[tokio::test]
    async fn host_is_limited_after_its_bytes_and_a_chunk_per_node() {
        let cluster = Cluster::new(3, 500 * MIB);
        let (sent, retry) = cluster.send(HostId(1)).await;
        assert!((500 * MIB..=504 * MIB).contains(&sent), "{sent}");
        // One of the 500 chunks is refilled every 172.8 s.
        assert!(retry <= Duration::from_secs(173) && retry >= Duration::from_secs(100), "{retry:?}");
        assert!(
            cluster.nodes[0].of(HostId(2), Side::Guest).unwrap().take(8_192).is_ok(),
            "another host is not affected"
        );
        assert!(
            cluster.nodes[0].of(HostId(1), Side::Host).unwrap().take(8_192).is_ok(),
            "the side of the host is not affected"
        );
        cluster.clock.advance(retry + Duration::from_millis(1));
        let (sent, _) = cluster.send(HostId(1)).await;
        assert!(sent > 0 && sent <= 5 * MIB, "{sent}");
        cluster.tracker.close();
        cluster.tracker.wait().await;
    }

    #[tokio::test]
    async fn reconnecting_keeps_the_count_and_no_limit_counts_nothing() {
        let cluster = Cluster::new(1, MIB);
        let mut sent = 0;
        while cluster.nodes[0].of(HostId(1), Side::Guest).unwrap().take(8_192).is_ok() {
            sent += 8_192;
            tokio::task::yield_now().await;
            assert!(sent < 2 * MIB, "no message was rejected");
        }
        assert!(sent >= MIB, "{sent}");
        let limits =
            Limits::new(Quotas::default(), Arc::new(MemoryThrottle::new(cluster.clock.clone())), cluster.clock.clone());
        assert!(Budgets::new(Arc::new(limits), cluster.tracker.clone()).of(HostId(1), Side::Guest).is_none());
    }
}
