//! What a node does by the clock, all the time: shows that it lives, watches its stores, and finishes what others left.

use std::time::Duration;

use super::node::Node;
use crate::redis::Redis;
use crate::shutdown::Shutdown;
use crate::store::Store;

/// How often a node renews its lease, and asks whether the broker answers.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// How often SQL is asked whether it answers.
const SQL_INTERVAL: Duration = Duration::from_secs(5);

/// How often changes of rooms are looked for whose node did not get round to them.
const EVENTS_INTERVAL: Duration = Duration::from_secs(5);

pub(super) fn start(node: &Node, store: &Store, redis: Option<&Redis>, shutdown: &Shutdown) {
    if let Some(redis) = redis.cloned() {
        let health = node.health.clone();
        every(shutdown, HEARTBEAT_INTERVAL, move || {
            let (redis, health) = (redis.clone(), health.clone());
            async move {
                let beat = redis.heartbeat().await;
                health.set_broker(beat.is_ok());
                if let Err(error) = beat {
                    tracing::warn!(%error, "the broker does not answer");
                }
            }
        });
    }
    let (health, watched) = (node.health.clone(), store.clone());
    every(shutdown, SQL_INTERVAL, move || {
        let (health, store) = (health.clone(), watched.clone());
        async move {
            let answer = store.ping().await;
            health.set_sql(answer.is_ok());
            if let Err(error) = answer {
                tracing::warn!(%error, "SQL does not answer");
            }
        }
    });
    let rooms = node.rooms.clone();
    every(shutdown, EVENTS_INTERVAL, move || {
        let rooms = rooms.clone();
        async move {
            if let Err(error) = rooms.redo_events().await {
                tracing::debug!(%error, "changes of rooms wait");
            }
        }
    });
}

/// Does something again and again until background work is to end.
fn every<F>(shutdown: &Shutdown, interval: Duration, work: impl Fn() -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let stop = shutdown.stopping_token();
    shutdown.spawn(async move {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            work().await;
        }
    });
}
