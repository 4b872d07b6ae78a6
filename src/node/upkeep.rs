//! Periodic tasks of every node: lease renewal, monitoring of the stores, presence, and publication of room changes
//! that a crashed node has committed but not published. Jobs that run once per cluster are in `jobs`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::health::NodeHealth;
use super::wiring::Node;
use crate::backend::ClusterPorts;
use crate::backend::redis::Redis;
use crate::backend::shutdown::Shutdown;
use crate::chat::hub::Hub;
use crate::chat::relay::SWEEP_INTERVAL;
use crate::node::clock_skew::Skew;
use crate::store::Store;

/// Interval at which a node renews its lease and checks that the broker responds.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// Interval of the presence check. It detects whether another node has stopped and whether this node must write its
/// presence entries again; it queries Redis only in these cases. A host must be offline within 20 s (SPEC 5): the lease
/// of 15 s, a heartbeat, this interval and the work itself take less.
const PRESENCE_INTERVAL: Duration = Duration::from_millis(500);

/// Interval at which this node publishes room changes that other nodes have committed but not published.
const EVENTS_INTERVAL: Duration = Duration::from_secs(5);

/// Interval at which the bytes in all outboxes are summed. With 100,000 sockets, the sum takes a few milliseconds.
const OUTBOX_INTERVAL: Duration = Duration::from_secs(5);

/// Interval at which the accounts of open host sockets are revalidated. Without it, the expiry of a login would not be
/// detected, because no event is published for it.
const STANDING_INTERVAL: Duration = Duration::from_secs(60);

/// Interval at which the clocks of the stores are read. A changed clock is detected within this interval.
const CLOCK_INTERVAL: Duration = Duration::from_secs(5);

/// Interval at which the memory usage of Redis is read. It is also read when Redis starts or stops rejecting writes.
const MEMORY_INTERVAL: Duration = Duration::from_secs(60);

pub(super) fn start(node: &Node, store: &Store, shutdown: &Shutdown) {
    if let Some(cluster) = &node.backend.cluster {
        follow_cluster(node, cluster, shutdown);
    }
    follow_sql(node, store, shutdown);
    let hub = node.hub.clone();
    every(shutdown, OUTBOX_INTERVAL, move || {
        hub.outbox_metrics().bytes.set(hub.outbox_bytes() as f64);
        std::future::ready(())
    });
    let revalidator = node.revalidator.clone();
    every(shutdown, STANDING_INTERVAL, move || {
        let revalidator = revalidator.clone();
        async move {
            if let Err(error) = revalidator.check().await {
                tracing::debug!(%error, "host session check failed, retrying");
            }
        }
    });
    let rooms = node.rooms.clone();
    every(shutdown, EVENTS_INTERVAL, move || {
        let rooms = rooms.clone();
        async move {
            if let Err(error) = rooms.redo_events().await {
                tracing::debug!(%error, "failed to publish pending room changes, retrying");
            }
        }
    });
}

/// Starts the tasks that only cluster nodes have: renewing the lease, maintaining presence entries, and comparing rooms
/// with the broker.
fn follow_cluster(node: &Node, cluster: &ClusterPorts, shutdown: &Shutdown) {
    let (ports, health, hub) = (cluster.clone(), node.health.clone(), node.hub.clone());
    every(shutdown, HEARTBEAT_INTERVAL, move || follow_redis(ports.clone(), health.clone(), hub.clone()));
    let presence = cluster.presence.clone();
    every(shutdown, PRESENCE_INTERVAL, move || {
        let presence = presence.clone();
        async move {
            if let Err(error) = presence.keep().await {
                tracing::debug!(%error, "failed to renew presence entries or remove entries of dead nodes, retrying");
            }
        }
    });
    let redis = cluster.redis.clone();
    every(shutdown, MEMORY_INTERVAL, move || {
        let redis = redis.clone();
        async move { measure_memory(&redis).await }
    });
    // The bus of a single-node server is in the process and loses no messages, so only cluster nodes compare their
    // rooms with the broker.
    let (mut sweep, membership, stop) = (node.sweep(), cluster.membership.clone(), shutdown.stopping_token());
    shutdown.spawn(async move {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known = None;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            // A new incarnation means that other nodes may have treated this node as stopped and removed its connection
            // counts. The counts are therefore reported again.
            if let Ok(incarnation) = membership.incarnation()
                && known.as_ref() != Some(&incarnation)
                && known.replace(incarnation).is_some()
            {
                sweep.hurry();
            }
            sweep.step().await;
        }
    });
}

/// Starts the database monitor. Updates the readiness of this node with the results.
fn follow_sql(node: &Node, store: &Store, shutdown: &Shutdown) {
    let (health, mut condition, stop) = (node.health.clone(), store.condition(), shutdown.stopping_token());
    health.set_sql(condition.borrow_and_update().clone());
    shutdown.spawn(store.clone().monitor(stop.clone()));
    shutdown.spawn(async move {
        while let Some(Ok(())) = stop.run_until_cancelled(condition.changed()).await {
            health.set_sql(condition.borrow_and_update().clone());
        }
    });
}

/// Starts the periodic measurement of the clock skew. Called only if the stores have their own clocks.
pub(super) fn measure_skew(skew: &Skew, shutdown: &Shutdown) {
    let skew = skew.clone();
    every(shutdown, CLOCK_INTERVAL, move || {
        let skew = skew.clone();
        async move {
            if let Err(error) = skew.measure().await {
                tracing::debug!(%error, "failed to read sql clock");
            }
        }
    });
}

async fn measure_memory(redis: &Redis) {
    if let Err(error) = redis.measure_memory().await {
        tracing::debug!(%error, "failed to read memory usage of redis");
    }
}

/// Verifies that Redis belongs to this installation, renews the lease of this node, and checks that Redis accepts
/// writes. Updates the readiness with the results.
async fn follow_redis(cluster: ClusterPorts, health: NodeHealth, hub: Arc<Hub>) {
    let ClusterPorts { redis, membership, .. } = cluster;
    let verified = redis.verify().await.map(|_| ());
    let suspension = redis.suspension();
    if suspension.is_some() {
        health.set_redis(suspension, None);
        // All sockets are closed, because their messages would not reach the nodes that use the Redis of this
        // installation.
        hub.close_all_for_retry();
        return;
    }
    let beat = match verified {
        Ok(()) => membership.renew().await,
        Err(error) => Err(error),
    };
    redis.report(&beat);
    health.set_redis_cause(beat.as_ref().err().map(|error| error.0.cause.clone()));
    if beat.is_ok() {
        let refused_before = redis.refuses_writes().is_some();
        // `try_writing` logs when Redis starts and stops rejecting writes.
        let refused = redis.try_writing().await.err().and_then(|_| redis.refuses_writes());
        if refused.is_some() != refused_before {
            // Redis may be full. The alert must not wait for the next reading.
            measure_memory(&redis).await;
        }
        health.set_redis(None, refused.map(|fault| fault.to_string()));
    }
}

/// Spawns a task that repeats `work` at an interval until background work is shut down.
fn every<F>(shutdown: &Shutdown, interval: Duration, work: impl Fn() -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let stop = shutdown.stopping_token();
    shutdown.spawn(async move {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            work().await;
        }
    });
}
