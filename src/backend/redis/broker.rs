//! Broker of a cluster. Redis stores the rooms, their logs and the archive queues. Lua scripts make each call atomic.
//!
//! All keys of a partition share the hash tag `{k}`, where `k` is the index of the partition. In a Redis Cluster, a
//! script therefore accesses only one slot. All other Redis deployments have one partition. The scripts are in
//! `broker/lua`. A comment at the top of each script lists its keys, arguments and results. In these comments, key
//! names omit the prefix `pt:<installation id>:`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use fred::types::{ClusterHash, CustomCommand};

use crate::backend::Unavailable;
use crate::backend::broker::{MessageLog as _, Partition};
use crate::backend::redis::Redis;
use crate::domain::Rng;
use crate::domain::{RoomName, RoomState, WireOffset};

mod answer;
mod archive;
mod bus;
mod bus_probes;
mod capacity;
mod clocks;
pub mod earlier;
mod listener;
mod log;
mod publication;
mod recovery;
mod rooms;
mod scripts;
mod seeding;
mod unarchived;

use bus_probes::BusProbes;
pub use capacity::Capacity;
use clocks::Clocks;
use scripts::BrokerScripts;

/// Maximum age of an `accept.lua` call on arrival at Redis. A call that arrives later writes nothing.
const ACCEPT_TTL: Duration = Duration::from_secs(3);

/// Lifetime of a tombstone. A tombstone is the marker that replaces a deleted room.
const TOMBSTONE_TTL: Duration = Duration::from_secs(24 * 3600);

/// Driver that implements the broker's ports over Redis.
#[derive(Clone, Debug)]
pub struct RedisBroker {
    redis: Redis,
    rng: Rng,
    /// Number of replicas that must have a batch before it is published.
    wait: u32,
    scripts: Arc<BrokerScripts>,
    clocks: Arc<Clocks>,
    probes: Arc<BusProbes>,
    capacity: Capacity,
    /// Whether Redis was low on memory when this node last removed idle rooms.
    is_memory_short: Arc<AtomicBool>,
    wire: WireOffset,
}

impl RedisBroker {
    /// Creates the driver over the node's clients. `wait` is the number of replicas that must have a batch before
    /// readers see it.
    pub fn new(redis: Redis, rng: Rng, wait: u32) -> Self {
        let probes = Arc::new(BusProbes::new(redis.node(), redis.partitions()));
        let (scripts, clocks) = (Arc::default(), Arc::new(Clocks::of_partitions(redis.partitions())));
        Self {
            redis,
            rng,
            wait,
            scripts,
            clocks,
            probes,
            capacity: Capacity::DEFAULT,
            is_memory_short: Arc::default(),
            wire: WireOffset::default(),
        }
    }

    /// Sets the limits of queues and logs.
    pub fn with_capacity(self, capacity: Capacity) -> Self {
        Self { capacity, ..self }
    }

    /// Simulates that each call takes `delay` to arrive. Shifts the estimated clock of the server for this purpose.
    #[cfg(test)]
    pub(crate) async fn delay_calls(&self, partition: Partition, delay: Duration) {
        self.clocks.forget(partition);
        let now = self.clock(partition).await.expect("redis answers");
        self.clocks.set(partition, now - delay.as_millis() as i64);
    }

    /// Returns the name of a key or channel of a partition.
    fn key(&self, partition: Partition, kind: &str) -> Result<String, Unavailable> {
        Ok(self.redis.keys()?.partition(partition, kind))
    }

    /// Returns the current time of the server that stores a partition, in ms.
    async fn clock(&self, partition: Partition) -> Result<i64, Unavailable> {
        if let Some(now) = self.clocks.now(partition) {
            return Ok(now);
        }
        self.clocks.read(&self.redis, partition).await?;
        Ok(self.clocks.now(partition).unwrap_or_default())
    }

    fn room_key(&self, kind: &str, room: RoomName) -> Result<String, Unavailable> {
        Ok(self.redis.keys()?.room(self.partition_of(room), kind, room))
    }

    fn key_of(&self, room: RoomName, kind: &str) -> Result<String, Unavailable> {
        self.key(self.partition_of(room), kind)
    }
}

/// Returns a command that the client sends to the server that stores `key`.
fn at_key(command: &'static str, key: &str) -> CustomCommand {
    CustomCommand::new_static(command, ClusterHash::Custom(fred::util::redis_keyslot(key.as_bytes())), false)
}

fn state_word(state: RoomState) -> &'static str {
    match state {
        RoomState::Open => "open",
        RoomState::Closed => "closed",
        RoomState::Deleted => "deleted",
    }
}

/// Returns the error for an answer in an unexpected format. This driver alone defines the formats. An unexpected format
/// therefore means that another program has written to this Redis.
fn unexpected_reply(what: &str) -> Unavailable {
    Unavailable(format!("unexpected reply from redis: {what}").into())
}
