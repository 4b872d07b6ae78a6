//! Clock and tick of the server of each partition, as far as this node has observed them. The tick of a partition is
//! the number of `accept.lua` calls that the server has counted. After a failover, a partition has a different server.
//! In a Redis Cluster, the server also changes when the slot of the partition moves.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use fred::prelude::*;
use parking_lot::Mutex;

use super::at_key;
use crate::backend::Unavailable;
use crate::backend::broker::Partition;
use crate::backend::redis::{Redis, call};

/// Maximum age of the reading with the shortest delay. In this time, two clocks drift apart by less than a millisecond.
const BEST_FOR: Duration = Duration::from_secs(60);

/// Reading of a server's clock, in ms, and the local time at which the reading arrived.
#[derive(Clone, Copy, Debug)]
struct ClockReading {
    shown: i64,
    at: Instant,
}

impl ClockReading {
    fn now(self) -> i64 {
        self.shown + self.at.elapsed().as_millis() as i64
    }
}

/// Readings of the clock of a partition's server.
#[derive(Debug, Default)]
struct ClockReadings {
    /// Newest reading. It is behind the server's clock by the time that the answer took to arrive.
    newest: Option<ClockReading>,
    /// Reading with the shortest delay in the last minute.
    best: Option<ClockReading>,
}

/// Clocks and ticks of all partitions.
#[derive(Debug)]
pub(super) struct Clocks(Box<[(Mutex<ClockReadings>, AtomicU64)]>);

impl Clocks {
    pub(super) fn of_partitions(count: u16) -> Self {
        Self((0..count).map(|_| Default::default()).collect())
    }

    /// Returns the highest tick of a partition that this node has received.
    pub(super) fn tick(&self, partition: Partition) -> u64 {
        self.0.get(usize::from(partition.0)).map_or(0, |(_, tick)| tick.load(Relaxed))
    }

    /// Records a tick that this node received in an answer or over the bus.
    pub(super) fn saw_tick(&self, partition: Partition, seen: u64) {
        if let Some((_, tick)) = self.0.get(usize::from(partition.0)) {
            tick.fetch_max(seen, Relaxed);
        }
    }

    /// Records a reading of the server's clock, in ms.
    pub(super) fn set(&self, partition: Partition, shown: i64) {
        let reading = ClockReading { shown, at: Instant::now() };
        let Some((known, _)) = self.0.get(usize::from(partition.0)) else { return };
        let mut known = known.lock();
        known.newest = Some(reading);
        if known.best.is_none_or(|best| best.at.elapsed() > BEST_FOR || best.now() <= shown) {
            known.best = Some(reading);
        }
    }

    /// Reads the clock of the server that stores a partition.
    pub(super) async fn read(&self, redis: &Redis, partition: Partition) -> Result<(), Unavailable> {
        let command = at_key("TIME", &redis.keys()?.partition(partition, "queue"));
        let client = redis.client();
        let (seconds, micros): (i64, i64) = call(|| client.custom(command.clone(), Vec::<Value>::new())).await?;
        self.set(partition, seconds * 1_000 + micros / 1_000);
        Ok(())
    }

    /// Returns the server's current time in ms. The value may be slightly too low, and is never too high. Returns
    /// `None` if the clock must be read first.
    pub(super) fn now(&self, partition: Partition) -> Option<i64> {
        self.0.get(usize::from(partition.0))?.0.lock().newest.map(ClockReading::now)
    }

    /// Returns the time since `stamp`, which is a time in ms by the server's clock. Returns `None` if the clock must be
    /// read first.
    pub(super) fn age(&self, partition: Partition, stamp: i64) -> Option<Duration> {
        let now = self.0.get(usize::from(partition.0))?.0.lock().best?.now();
        Some(Duration::from_millis(u64::try_from(now - stamp).unwrap_or_default()))
    }

    /// Discards the readings of a partition's clock, because a different server may store the partition now.
    pub(super) fn forget(&self, partition: Partition) {
        if let Some((known, _)) = self.0.get(usize::from(partition.0)) {
            *known.lock() = ClockReadings::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delayed_answer_does_not_reduce_ages() {
        let (clocks, partition) = (Clocks::of_partitions(4), Partition(3));
        assert_eq!(clocks.age(partition, 0), None);
        clocks.set(partition, 10_000);
        // The second answer was delayed, so it makes the clock appear to be behind.
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
