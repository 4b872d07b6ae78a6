//! Subscribes to all buses and to account changes, and delivers the received events to the sink.
//!
//! **Invariant:** the sink is notified whenever publications may have been missed. Publications may be missed if the
//! subscriber lags or reconnects.

use std::sync::Arc;
use std::time::Duration;

use fred::prelude::*;
use fred::types::Message;
use tokio::sync::Notify;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::answer;
use super::bus_probes::{BusProbes, PROBE_INTERVAL};
use super::clocks::Clocks;
use super::publication;
use crate::backend::Unavailable;
use crate::backend::broker::{Partition, Sink};
use crate::backend::metrics::BusMetrics;
use crate::backend::redis::{Disturbances, Redis, call, within};

/// Interval at which account changes are read even without a notification.
const CONTROL_INTERVAL: Duration = Duration::from_secs(5);

/// Interval at which the listener checks whether probes are missing.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Delay before a failed subscription is retried.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Interval at which the node subscribes to all buses again in a Redis Cluster. An active subscription is not affected.
/// When a slot moves, the client discards the server's notification, so only the error of this call reveals the move.
const BUSES_INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn start(
    redis: Redis,
    sink: Arc<dyn Sink>,
    probes: Arc<BusProbes>,
    clocks: Arc<Clocks>,
) -> Result<(), Unavailable> {
    let messages = redis.subscriber().message_rx();
    let disturbances = redis.disturbances();
    // A node does not receive account changes that were published before it started.
    let newest = newest_control(&redis).await.unwrap_or_else(|_| "0-0".into());
    let first = resubscribe(&redis).await;
    let news = Arc::<Notify>::default();
    let control = redis.keys()?.control().to_owned();
    let metrics = Arc::<BusMetrics>::default();
    tokio::spawn(listen(
        redis.clone(),
        control,
        sink.clone(),
        messages,
        news.clone(),
        (probes.clone(), clocks.clone()),
        metrics.clone(),
    ));
    tokio::spawn(probe(redis.clone(), probes.clone(), clocks, metrics.clone()));
    tokio::spawn(keep(redis, sink, (disturbances, news), newest, first.is_ok(), probes, metrics));
    first
}

/// Delivers received publications to the sink. This task sends no commands to Redis. A master that does not answer
/// therefore cannot delay the publications of other masters.
async fn listen(
    redis: Redis,
    control: String,
    sink: Arc<dyn Sink>,
    mut messages: Receiver<Message>,
    news: Arc<Notify>,
    (probes, clocks): (Arc<BusProbes>, Arc<Clocks>),
    metrics: Arc<BusMetrics>,
) {
    loop {
        tokio::select! {
            () = redis.ended() => return,
            message = messages.recv() => match message {
                Ok(message) if *message.channel == *control => news.notify_one(),
                Ok(message) if !message.channel.ends_with(":bus") => {}
                Ok(message) => {
                    let bytes = message.value.as_bytes();
                    let understood = bytes.is_some_and(|bytes| publication::deliver(bytes, &*sink, &probes, &clocks));
                    if !understood {
                        tracing::error!(channel = %message.channel, "failed to decode publication");
                        sink.missed();
                    }
                }
                Err(RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, "bus subscriber lagged, comparing rooms with redis");
                    metrics.lagged.increment(1);
                    sink.missed();
                }
                Err(RecvError::Closed) => return,
            },
        }
    }
}

/// Keeps the subscriptions to the buses active and reads account changes.
async fn keep(
    redis: Redis,
    sink: Arc<dyn Sink>,
    (mut disturbances, news): (Disturbances, Arc<Notify>),
    mut newest: String,
    mut subscribed: bool,
    probes: Arc<BusProbes>,
    metrics: Arc<BusMetrics>,
) {
    let every = |interval| {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks
    };
    let (mut control, mut retry, mut buses) = (every(CONTROL_INTERVAL), every(RETRY_INTERVAL), every(BUSES_INTERVAL));
    loop {
        tokio::select! {
            () = redis.ended() => return,
            disturbance = disturbances.next() => match disturbance {
                Some(()) => subscribed = false,
                None => return,
            },
            _ = buses.tick(), if subscribed && redis.subscriber().is_clustered() => {
                subscribed = resubscribe(&redis).await.is_ok();
            }
            _ = retry.tick(), if !subscribed => match resubscribe(&redis).await {
                Ok(()) => {
                    subscribed = true;
                    probes.reset();
                    metrics.resubscribed.increment(1);
                    sink.missed();
                    read_control(&redis, &*sink, &mut newest).await;
                }
                Err(error) => tracing::warn!(%error, "failed to subscribe to buses, retrying"),
            },
            _ = control.tick() => read_control(&redis, &*sink, &mut newest).await,
            () = news.notified() => read_control(&redis, &*sink, &mut newest).await,
        }
    }
}

/// Publishes probes on every bus. If this node does not receive the probes of a bus, it reconnects, even if the
/// connection reports no error.
async fn probe(redis: Redis, probes: Arc<BusProbes>, clocks: Arc<Clocks>, metrics: Arc<BusMetrics>) {
    let mut probe_ticks = tokio::time::interval(PROBE_INTERVAL);
    let mut checks = tokio::time::interval(CHECK_INTERVAL);
    for ticks in [&mut probe_ticks, &mut checks] {
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    }
    loop {
        tokio::select! {
            () = redis.ended() => return,
            _ = probe_ticks.tick() => {
                tokio::join!(send_probes(&redis, &probes), read_clocks(&redis, &clocks));
            }
            _ = checks.tick() => {
                if let Some(age) = probes.age() {
                    metrics.probe_age.set(age.as_secs_f64());
                }
                if let Some(partition) = probes.silent_bus() {
                    tracing::warn!(partition = partition.0, "no probe received on bus, reconnecting");
                    metrics.silent.increment(1);
                    probes.set_receiving(false);
                    probes.reset();
                    if let Err(error) = redis.subscriber().force_reconnection().await {
                        tracing::debug!(%error, "failed to reconnect subscriber, retrying");
                    }
                    probe_ticks.reset_after(CHECK_INTERVAL);
                } else if !probes.is_receiving() && probes.all_received() {
                    probes.set_receiving(true);
                }
            }
        }
    }
}

/// Publishes a probe on every bus. A probe that Redis rejects counts as missing, because Redis would also reject
/// messages.
async fn send_probes(redis: &Redis, probes: &BusProbes) {
    let published = (0..redis.partitions()).map(Partition).map(|partition| async move {
        let Some(probe) = publication::probe(redis.node(), partition) else { return };
        // The probe is recorded before it is published, because the node may receive it before Redis answers.
        probes.expect(partition);
        let bus = redis.keys().map(|keys| keys.partition(partition, "bus"));
        let published = match bus {
            Ok(bus) => within(redis.client().spublish::<(), _, _>(bus, probe)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = published {
            tracing::debug!(%error, partition = partition.0, "failed to publish probe");
        }
    });
    futures_util::future::join_all(published).await;
}

/// Reads the clock of every partition. A node that submits no messages needs these readings to compute the age of the
/// messages that it receives.
async fn read_clocks(redis: &Redis, clocks: &Clocks) {
    let readings = (0..redis.partitions()).map(Partition).map(|partition| async move {
        if let Err(error) = clocks.read(redis, partition).await {
            tracing::debug!(%error, partition = partition.0, "failed to read redis clock");
        }
    });
    futures_util::future::join_all(readings).await;
}

/// Subscribes to all channels. Active subscriptions are not affected. If a bus has moved, the first attempt to
/// subscribe fails, and the client uses the new server in its next attempt.
async fn resubscribe(redis: &Redis) -> Result<(), Unavailable> {
    let (subscriber, keys) = (redis.subscriber(), redis.keys()?);
    for partition in (0..redis.partitions()).map(Partition) {
        within(subscriber.ssubscribe(keys.partition(partition, "bus"))).await?;
    }
    redis.subscribe(keys.control()).await
}

async fn newest_control(redis: &Redis) -> Result<String, Unavailable> {
    let control = redis.keys()?.control();
    let answer = call(|| redis.client().xrevrange(control, "+", "-", Some(1))).await?;
    Ok(answer::entries(answer)?.into_iter().next().map_or_else(|| "0-0".into(), |(id, _)| id))
}

async fn read_control(redis: &Redis, sink: &dyn Sink, newest: &mut String) {
    let from = format!("({newest}");
    let read = async {
        let control = redis.keys()?.control();
        answer::entries(call(|| redis.client().xrange(control, &from, "+", None)).await?)
    };
    match read.await {
        Ok(entries) => {
            for (id, mut fields) in entries {
                *newest = id;
                match fields.nth(1).and_then(|json| json.as_string()).map(|json| serde_json::from_str(&json)) {
                    Some(Ok(control)) => sink.control(control),
                    // Only a newer release publishes an account change of an unknown kind.
                    unknown => tracing::warn!(?unknown, "unknown account change ignored"),
                }
            }
        }
        Err(error) => tracing::debug!(%error, "failed to read account changes, retrying"),
    }
}
