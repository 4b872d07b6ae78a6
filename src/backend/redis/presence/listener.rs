//! Receives status changes and guests' notices from the presence channel, and delivers them to the sink.
//!
//! **Invariant:** the sink is notified whenever events may have been missed. Events may be missed if the subscriber
//! lags or reconnects.

use std::sync::Arc;
use std::time::Duration;

use fred::prelude::*;
use fred::types::Message;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::backend::Unavailable;
use crate::backend::presence::{PresenceSink, Status};
use crate::backend::redis::{Disturbances, Redis};
use crate::domain::HostUuid;

/// Delay before a failed subscription is retried.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

pub(super) async fn start(redis: Redis, sink: Arc<dyn PresenceSink>) -> Result<(), Unavailable> {
    // The receivers are created before the subscription, so that no event is missed.
    let (messages, disturbances) = (redis.subscriber().message_rx(), redis.disturbances());
    let channel = redis.keys()?.status().to_owned();
    let first = redis.subscribe(&channel).await;
    tokio::spawn(listen(redis, channel, sink, (messages, disturbances), first.is_ok()));
    first
}

async fn listen(
    redis: Redis,
    channel: String,
    sink: Arc<dyn PresenceSink>,
    (mut messages, mut disturbances): (Receiver<Message>, Disturbances),
    mut subscribed: bool,
) {
    let mut retry = tokio::time::interval(RETRY_INTERVAL);
    loop {
        tokio::select! {
            () = redis.ended() => return,
            message = messages.recv() => match message {
                Ok(message) if *message.channel == *channel => {
                    if message.value.as_bytes().and_then(|bytes| deliver(bytes, &*sink)).is_none() {
                        tracing::warn!("failed to decode status event");
                    }
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => sink.missed(),
                Err(RecvError::Closed) => return,
            },
            disturbance = disturbances.next() => match disturbance {
                Some(()) => subscribed = false,
                None => return,
            },
            _ = retry.tick(), if !subscribed => {
                subscribed = redis.subscribe(&channel).await.is_ok();
                if subscribed {
                    sink.missed();
                }
            }
        }
    }
}

fn deliver(event: &[u8], sink: &dyn PresenceSink) -> Option<()> {
    let (kind, rest) = event.split_first()?;
    let host = HostUuid::from_bytes(rest.get(..HostUuid::LEN)?).ok()?;
    let rest = rest.get(HostUuid::LEN..)?.strip_prefix(b" ")?;
    match kind {
        b'S' => {
            let (online, version) = std::str::from_utf8(rest).ok()?.split_once(' ')?;
            sink.presence(host, Status { online: online == "1", version: version.parse().ok()? });
        }
        b'G' => sink.greeting(host, rest),
        // Only a newer release publishes an event of an unknown kind.
        _ => {}
    }
    Some(())
}
