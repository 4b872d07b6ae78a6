//! What a node knows of the server behind each partition: its clock, and the highest tick that it has shown. In a Cluster
//! another server may have the partition, and after a failover another one does.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use fred::prelude::*;
use parking_lot::Mutex;

use super::at_key;
use crate::broker::{Partition, Unavailable};
use crate::redis::{Redis, call};

/// How long the best reading of a clock is kept: two clocks drift apart by less than a millisecond in it.
const BEST_FOR: Duration = Duration::from_secs(60);

/// A server's clock against ours, in ms.
#[derive(Clone, Copy, Debug)]
struct Reading {
    shown: i64,
    at: Instant,
}

impl Reading {
    fn now(self) -> i64 {
        self.shown + self.at.elapsed().as_millis() as i64
    }
}

/// What is known of a clock.
#[derive(Debug, Default)]
struct Known {
    /// The newest reading: an answer is some time under way, by which the clock is further than it seems.
    newest: Option<Reading>,
    /// The one of the last minute that was least time under way.
    best: Option<Reading>,
}

/// The clocks and ticks of all partitions.
#[derive(Debug)]
pub(super) struct Clocks(Box<[(Mutex<Known>, AtomicU64)]>);

impl Clocks {
    pub(super) fn of_partitions(count: u16) -> Self {
        Self((0..count).map(|_| Default::default()).collect())
    }

    /// The highest tick that this node has seen of a partition.
    pub(super) fn tick(&self, partition: Partition) -> u64 {
        self.0.get(usize::from(partition.0)).map_or(0, |(_, tick)| tick.load(Relaxed))
    }

    /// Notes a tick that the server has shown, here or to another node.
    pub(super) fn saw_tick(&self, partition: Partition, seen: u64) {
        if let Some((_, tick)) = self.0.get(usize::from(partition.0)) {
            tick.fetch_max(seen, Relaxed);
        }
    }

    /// Notes what the clock shows.
    pub(super) fn set(&self, partition: Partition, shown: i64) {
        let reading = Reading { shown, at: Instant::now() };
        let Some((known, _)) = self.0.get(usize::from(partition.0)) else { return };
        let mut known = known.lock();
        known.newest = Some(reading);
        if known.best.is_none_or(|best| best.at.elapsed() > BEST_FOR || best.now() <= shown) {
            known.best = Some(reading);
        }
    }

    /// Asks the server that has a partition.
    pub(super) async fn read(&self, redis: &Redis, partition: Partition) -> Result<(), Unavailable> {
        let ask = at_key("TIME", &redis.keys()?.partition(partition, "queue"));
        let client = redis.client();
        let (seconds, micros): (i64, i64) = call(|| client.custom(ask.clone(), Vec::<Value>::new())).await?;
        self.set(partition, seconds * 1_000 + micros / 1_000);
        Ok(())
    }

    /// What it shows now, or a little less; `None` where it has to be asked for.
    pub(super) fn now(&self, partition: Partition) -> Option<i64> {
        self.0.get(usize::from(partition.0))?.0.lock().newest.map(Reading::now)
    }

    /// How long ago something happened that the server has stamped.
    pub(super) fn age(&self, partition: Partition, stamp: i64) -> Option<Duration> {
        let now = self.0.get(usize::from(partition.0))?.0.lock().best?.now();
        Some(Duration::from_millis(u64::try_from(now - stamp).unwrap_or_default()))
    }

    /// It may be another one by now.
    pub(super) fn forget(&self, partition: Partition) {
        if let Some((known, _)) = self.0.get(usize::from(partition.0)) {
            *known.lock() = Known::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_long_under_way_makes_nothing_younger() {
        let (clocks, partition) = (Clocks::of_partitions(4), Partition(3));
        assert_eq!(clocks.age(partition, 0), None);
        clocks.set(partition, 10_000);
        // This one says that the clock is behind: it has waited.
        clocks.set(partition, 8_000);
        assert!(clocks.now(partition).is_some_and(|now| now < 9_000));
        let is_right = |age: Option<Duration>| age.is_some_and(|age| (1_000..2_000).contains(&age.as_millis()));
        assert!(is_right(clocks.age(partition, 9_000)));
        assert_eq!(clocks.age(partition, 20_000), Some(Duration::ZERO));
        clocks.set(partition, 12_000);
        assert!(is_right(clocks.age(partition, 11_000)));
        clocks.forget(partition);
        assert_eq!((clocks.now(partition), clocks.age(partition, 0)), (None, None));
    }
}
