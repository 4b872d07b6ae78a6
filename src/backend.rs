//! Ports (traits) through which a node accesses shared state, and their drivers. A cluster uses the Redis drivers. A
//! single-node server uses the embedded drivers, which store their state in memory and in the database.
//!
//! [`Backend`] contains all ports of a node. Only its constructors select the drivers.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::Rng;
use crate::domain::WireOffset;
use crate::domain::clock::Clock;
use crate::store::Store;

pub mod broker;
pub mod embedded;
mod error;
pub mod keyed_mutex;
pub mod lease;
pub mod membership;
pub(crate) mod metrics;
pub mod presence;
pub mod redis;
pub mod shutdown;
pub mod throttle;

use broker::queue::ArchiveQueue;
use broker::recovery::Recovery;
use broker::{Bus, BusHealth, MessageLog, RecentLog, RoomStates, Seeding};
use embedded::broker::EmbeddedBroker;
use embedded::lease::SoleLease;
use embedded::presence::MemoryPresence;
use embedded::throttle::MemoryThrottle;
pub use error::Unavailable;
use lease::Lease;
use membership::Membership;
use presence::{Presence, PresenceUpkeep};
use redis::Redis;
use redis::broker::{Capacity, RedisBroker};
use redis::lease::RedisLease;
use redis::presence::RedisPresence;
use redis::throttle::RedisThrottle;
use throttle::Throttle;

/// The ports of a node. Clones share the drivers.
#[derive(Clone)]
pub struct Backend {
    /// Assigns sequence numbers to messages, stores them and publishes them.
    pub log: Arc<dyn MessageLog>,
    /// States of rooms and the connections in them.
    pub states: Arc<dyn RoomStates>,
    /// Delivers publications, notices, room changes and account changes to all nodes.
    pub bus: Arc<dyn Bus>,
    /// Reports which hosts are online.
    pub presence: Arc<dyn Presence>,
    /// Lease that the leader of the cluster holds.
    pub lease: Arc<dyn Lease>,
    /// Rate limits that apply to all nodes together.
    pub throttle: Arc<dyn Throttle>,
    /// Ports that only a cluster has. `None` on a single-node server.
    pub cluster: Option<ClusterPorts>,
}

/// Ports that only a cluster has. Clones share the drivers.
#[derive(Clone)]
pub struct ClusterPorts {
    /// Recent messages, which may be missing from the database.
    pub recent: Arc<dyn RecentLog>,
    /// Loads rooms from the database into the broker.
    pub seeding: Arc<dyn Seeding>,
    /// Health of this node's subscriptions.
    pub bus_health: Arc<dyn BusHealth>,
    /// Queues of accepted messages that are missing from the database.
    pub archive: Arc<dyn ArchiveQueue>,
    /// Recovery after a store was restored to an earlier state.
    pub recovery: Arc<dyn Recovery>,
    /// Leases of all nodes. This node renews its own lease.
    pub membership: Arc<dyn Membership>,
    /// Restores presence entries of this node and removes the entries of dead nodes.
    pub presence: Arc<dyn PresenceUpkeep>,
    /// Redis clients that all drivers share. Callers use them directly to verify the owner of Redis and to read the
    /// clocks of its servers.
    pub redis: Redis,
}

/// Options of the Redis drivers. The default values are intended for commands, which accept no messages.
#[derive(Clone, Copy, Debug)]
pub struct RedisOptions {
    /// Number of replicas that must have a message before readers see it.
    pub replicas: u32,
    /// Limits on the messages that are kept in Redis.
    pub capacity: Capacity,
    /// UTC offset of the wall-clock times that clients send.
    pub wire: WireOffset,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self { replicas: 0, capacity: Capacity::DEFAULT, wire: WireOffset::default() }
    }
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ClusterPorts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterPorts").field("redis", &self.redis).finish_non_exhaustive()
    }
}

impl Backend {
    /// Creates the ports of a cluster node. `redis` contains the Redis clients of the node.
    pub fn redis(redis: Redis, rng: Rng, options: RedisOptions) -> Self {
        let RedisOptions { replicas, capacity, wire } = options;
        let broker = RedisBroker::new(redis.clone(), rng, replicas).with_wire(wire).with_capacity(capacity);
        let (broker, presence) = (Arc::new(broker), Arc::new(RedisPresence::new(redis.clone())));
        Self {
            log: broker.clone(),
            states: broker.clone(),
            bus: broker.clone(),
            presence: presence.clone(),
            lease: Arc::new(RedisLease::new(redis.clone())),
            throttle: Arc::new(RedisThrottle::new(redis.clone())),
            cluster: Some(ClusterPorts {
                recent: broker.clone(),
                seeding: broker.clone(),
                bus_health: broker.clone(),
                archive: broker.clone(),
                recovery: broker,
                membership: Arc::new(redis.clone()),
                presence,
                redis,
            }),
        }
    }

    /// Creates the ports of a single-node server. No other process may write to the database.
    pub fn embedded(store: Store, clock: Arc<dyn Clock>) -> Self {
        let broker = Arc::new(EmbeddedBroker::new(store, clock.clone()));
        Self {
            log: broker.clone(),
            states: broker.clone(),
            bus: broker,
            presence: Arc::new(MemoryPresence::default()),
            lease: Arc::new(SoleLease),
            throttle: Arc::new(MemoryThrottle::new(clock)),
            cluster: None,
        }
    }

    /// Returns whether this node is part of a cluster, so that other nodes may serve the same rooms.
    pub fn is_cluster(&self) -> bool {
        self.cluster.is_some()
    }

    /// Shortens the remaining time of this node's lease to at most `lease`, so that other nodes soon treat this node as
    /// dead. Then closes the connections to Redis. Has no effect on a single-node server.
    pub async fn leave(&self, lease: Duration) {
        let Some(cluster) = &self.cluster else { return };
        if let Err(error) = cluster.membership.sign_off(lease).await {
            tracing::debug!(%error, "failed to shorten node lease");
        }
        cluster.redis.quit().await;
    }

    /// Closes the connections to Redis without changing a lease. Commands call this method, because a command has no
    /// lease.
    pub async fn close(&self) {
        if let Some(cluster) = &self.cluster {
            cluster.redis.quit().await;
        }
    }
}
