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
use super::publication;
use super::{CONTROL, PARTITIONS, key};
use crate::broker::{Partition, Sink, Unavailable};
use crate::redis::{Disturbances, Redis, call, within};

/// News about hosts is looked for this often even if nobody says that there is some.
const CONTROL_INTERVAL: Duration = Duration::from_secs(5);

/// How long to wait before subscribing again what could not be.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// In a Cluster the buses are subscribed again this often. To one that stands it is nothing; of one whose slot has moved it is
/// the only news: the server's own is dropped by the client.
const BUSES_INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn start(redis: Redis, sink: Arc<dyn Sink>) -> Result<(), Unavailable> {
    let messages = redis.subscriber().message_rx();
    let disturbances = redis.disturbances();
    // What was said before this node came is not news to it.
    let newest = newest_control(&redis).await.unwrap_or_else(|_| "0-0".into());
    let first = resubscribe(&redis).await;
    let news = Arc::<Notify>::default();
    tokio::spawn(listen(redis.clone(), sink.clone(), messages, news.clone()));
    tokio::spawn(keep(redis, sink, disturbances, news, newest, first.is_ok()));
    first
}

/// Hands on what comes. It asks Redis nothing: what one master does not answer must not hold up what another says.
async fn listen(redis: Redis, sink: Arc<dyn Sink>, mut messages: Receiver<Message>, news: Arc<Notify>) {
    loop {
        tokio::select! {
            () = redis.ended() => return,
            message = messages.recv() => match message {
                Ok(message) if &*message.channel == CONTROL => news.notify_one(),
                Ok(message) if !message.channel.ends_with(":bus") => {}
                Ok(message) => {
                    let understood = message.value.as_bytes().is_some_and(|bytes| publication::deliver(bytes, &*sink));
                    if !understood {
                        tracing::error!(channel = %message.channel, "a publication could not be read");
                        sink.missed();
                    }
                }
                Err(RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, "the listener fell behind; rooms are compared with the broker");
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
                    metrics::counter!(crate::metric::BUS_RESUBSCRIBED).increment(1);
                    sink.missed();
                }
                Err(error) => tracing::warn!(%error, "the buses are not subscribed yet"),
            },
            _ = control.tick() => read_control(&redis, &*sink, &mut newest).await,
            () = news.notified() => read_control(&redis, &*sink, &mut newest).await,
        }
    }
}

/// Subscribes everything. What is subscribed already stays so; a bus that has moved is an error once, and by the next time the
/// client knows where to.
async fn resubscribe(redis: &Redis) -> Result<(), Unavailable> {
    let subscriber = redis.subscriber();
    for partition in (0..PARTITIONS).map(Partition) {
        within(subscriber.ssubscribe(key(partition, "bus"))).await?;
    }
    redis.subscribe(CONTROL).await
}

async fn newest_control(redis: &Redis) -> Result<String, Unavailable> {
    let answer = call(|| redis.client().xrevrange(CONTROL, "+", "-", Some(1))).await?;
    Ok(answer::entries(answer)?.into_iter().next().map_or_else(|| "0-0".into(), |(id, _)| id))
}

async fn read_control(redis: &Redis, sink: &dyn Sink, newest: &mut String) {
    let from = format!("({newest}");
    let entries = match call(|| redis.client().xrange(CONTROL, &from, "+", None)).await {
        Ok(answer) => answer::entries(answer),
        Err(error) => Err(error),
    };
    match entries {
        Ok(entries) => {
            for (id, mut fields) in entries {
                *newest = id;
                match fields.nth(1).and_then(|json| json.as_string()).map(|json| serde_json::from_str(&json)) {
                    Some(Ok(control)) => sink.control(control),
                    // A newer node's news: not for us.
                    unknown => tracing::warn!(?unknown, "news about a host that this version does not know"),
                }
            }
        }
        Err(error) => tracing::debug!(%error, "news about hosts could not be read; tried again soon"),
    }
}
