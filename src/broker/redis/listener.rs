//! Listens to every bus and to the news about hosts, and hands what comes to the sink.
//!
//! **Invariant:** whenever something may have been missed (a lag, a new connection), the sink is told.

use std::sync::Arc;
use std::time::Duration;

use fred::prelude::*;
use fred::types::Message;
use tokio::sync::Notify;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::answer;
use super::clocks::Clocks;
use super::hearing::{Hearing, PROBE_INTERVAL};
use super::publication;
use crate::broker::{Partition, Sink, Unavailable};
use crate::redis::{Disturbances, Redis, call, within};

/// News about hosts is looked for this often even if nobody says that there is some.
const CONTROL_INTERVAL: Duration = Duration::from_secs(5);

/// How often it is looked whether what was said was heard.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long to wait before subscribing again what could not be.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// In a Cluster the buses are subscribed again this often. To one that stands it is nothing; of one whose slot has moved it is
/// the only news: the server's own is dropped by the client.
const BUSES_INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn start(
    redis: Redis,
    sink: Arc<dyn Sink>,
    hearing: Arc<Hearing>,
    clocks: Arc<Clocks>,
) -> Result<(), Unavailable> {
    let messages = redis.subscriber().message_rx();
    let disturbances = redis.disturbances();
    // What was said before this node came is not news to it.
    let newest = newest_control(&redis).await.unwrap_or_else(|_| "0-0".into());
    let first = resubscribe(&redis).await;
    let news = Arc::<Notify>::default();
    let control = redis.keys()?.control().to_owned();
    tokio::spawn(listen(
        redis.clone(),
        control,
        sink.clone(),
        messages,
        news.clone(),
        (hearing.clone(), clocks.clone()),
    ));
    tokio::spawn(probe(redis.clone(), hearing.clone(), clocks));
    tokio::spawn(keep(redis, sink, disturbances, news, newest, first.is_ok(), hearing));
    first
}

/// Hands on what comes. It asks Redis nothing: what one master does not answer must not hold up what another says.
async fn listen(
    redis: Redis,
    control: String,
    sink: Arc<dyn Sink>,
    mut messages: Receiver<Message>,
    news: Arc<Notify>,
    (hearing, clocks): (Arc<Hearing>, Arc<Clocks>),
) {
    loop {
        tokio::select! {
            () = redis.ended() => return,
            message = messages.recv() => match message {
                Ok(message) if *message.channel == *control => news.notify_one(),
                Ok(message) if !message.channel.ends_with(":bus") => {}
                Ok(message) => {
                    let bytes = message.value.as_bytes();
                    let understood = bytes.is_some_and(|bytes| publication::deliver(bytes, &*sink, &hearing, &clocks));
                    if !understood {
                        tracing::error!(channel = %message.channel, "failed to decode publication");
                        sink.missed();
                    }
                }
                Err(RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, "bus listener lagged, comparing rooms with broker");
                    metrics::counter!(crate::metric::BUS_LAGGED).increment(1);
                    sink.missed();
                }
                Err(RecvError::Closed) => return,
            },
        }
    }
}

/// Sees that the buses stay subscribed, and reads the news.
async fn keep(
    redis: Redis,
    sink: Arc<dyn Sink>,
    mut disturbances: Disturbances,
    news: Arc<Notify>,
    mut newest: String,
    mut subscribed: bool,
    hearing: Arc<Hearing>,
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
                    hearing.start_again();
                    metrics::counter!(crate::metric::BUS_RESUBSCRIBED).increment(1);
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

/// Says something on every bus again and again. Whoever does not hear himself while Redis takes what he says is deaf, however
/// well his connection looks: it is dropped for a new one.
async fn probe(redis: Redis, hearing: Arc<Hearing>, clocks: Arc<Clocks>) {
    let mut probes = tokio::time::interval(PROBE_INTERVAL);
    let mut checks = tokio::time::interval(CHECK_INTERVAL);
    for ticks in [&mut probes, &mut checks] {
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    }
    loop {
        tokio::select! {
            () = redis.ended() => return,
            _ = probes.tick() => {
                tokio::join!(send_probes(&redis, &hearing), read_clocks(&redis, &clocks));
            }
            _ = checks.tick() => {
                if let Some(age) = hearing.age() {
                    metrics::gauge!(crate::metric::PROBE_AGE).set(age.as_secs_f64());
                }
                if let Some(partition) = hearing.deaf() {
                    tracing::warn!(partition = partition.0, "bus unsubscribed, reconnecting");
                    metrics::counter!(crate::metric::BUS_DEAF).increment(1);
                    hearing.set_hears(false);
                    hearing.start_again();
                    if let Err(error) = redis.subscriber().force_reconnection().await {
                        tracing::debug!(%error, "subscriber already reconnecting");
                    }
                    probes.reset_after(CHECK_INTERVAL);
                } else if !hearing.hears() && hearing.has_heard_all() {
                    hearing.set_hears(true);
                }
            }
        }
    }
}

/// Publishes a probe on every bus. One that Redis refuses counts as missing: messages are refused, too.
async fn send_probes(redis: &Redis, hearing: &Hearing) {
    let probes = (0..redis.partitions()).map(Partition).map(|partition| async move {
        let Some(probe) = publication::probe(redis.node(), partition) else { return };
        // Before it is published: it may be received before Redis has answered.
        hearing.sends(partition);
        let bus = redis.keys().map(|keys| keys.partition(partition, "bus"));
        let published = match bus {
            Ok(bus) => within(redis.client().spublish::<(), _, _>(bus, probe)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = published {
            tracing::debug!(%error, partition = partition.0, "failed to publish probe");
        }
    });
    futures_util::future::join_all(probes).await;
}

/// Asks for the clocks, so that also a node that accepts nothing knows how old is what it hears.
async fn read_clocks(redis: &Redis, clocks: &Clocks) {
    let readings = (0..redis.partitions()).map(Partition).map(|partition| async move {
        if let Err(error) = clocks.read(redis, partition).await {
            tracing::debug!(%error, partition = partition.0, "failed to read clock");
        }
    });
    futures_util::future::join_all(readings).await;
}

/// Subscribes everything. What is subscribed already stays so; a bus that has moved is an error once, and by the next time the
/// client knows where to.
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
                    // A newer node's news: not for us.
                    unknown => tracing::warn!(?unknown, "unknown account change ignored"),
                }
            }
        }
        Err(error) => tracing::debug!(%error, "failed to read account changes, retrying"),
    }
}
