//! Presence of a cluster: a hash a host with the nodes that have sockets of his, and one channel for what changes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fred::prelude::*;
use fred::types::Message;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::{Presence, PresenceSink};
use crate::broker::Unavailable;
use crate::domain::HostUuid;
use crate::redis::{Disturbances, Redis, Script, call};

mod orphans;

/// Where changes and greetings are told: `S<host> <0|1> <version>` and `G<host> <frame>`.
const CHANNEL: &str = "pt:status";

/// The driver.
#[derive(Clone, Debug)]
pub struct RedisPresence {
    redis: Redis,
    script: Arc<Script>,
}

impl RedisPresence {
    /// Over the node's clients.
    pub fn new(redis: Redis) -> Self {
        Self { redis, script: Arc::new(Script::new(include_str!("presence.lua"))) }
    }

    async fn set(&self, host: HostUuid, has: &'static str) -> Result<(), Unavailable> {
        let args: Vec<Value> =
            vec![self.redis.node().as_str().into(), has.into(), CHANNEL.into(), host.as_str().into()];
        self.redis.eval(&self.script, key(host), args).await.map(|_| ())
    }

    async fn listen(
        self,
        sink: Arc<dyn PresenceSink>,
        mut messages: Receiver<Message>,
        mut disturbances: Disturbances,
        mut subscribed: bool,
    ) {
        let mut retry = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                () = self.redis.ended() => return,
                message = messages.recv() => match message {
                    Ok(message) if &*message.channel == CHANNEL => {
                        if message.value.as_bytes().and_then(|bytes| deliver(bytes, &*sink)).is_none() {
                            tracing::warn!("a status event could not be read");
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
                    subscribed = self.redis.subscribe(CHANNEL).await.is_ok();
                    if subscribed {
                        sink.missed();
                    }
                }
            }
        }
    }
}

fn key(host: HostUuid) -> String {
    format!("pt:{{{host}}}:presence")
}

fn deliver(event: &[u8], sink: &dyn PresenceSink) -> Option<()> {
    let (kind, rest) = event.split_first()?;
    let host = HostUuid::from_bytes(rest.get(..HostUuid::LEN)?).ok()?;
    let rest = rest.get(HostUuid::LEN..)?.strip_prefix(b" ")?;
    match kind {
        b'S' => sink.presence(host, rest.first()? == &b'1'),
        b'G' => sink.greeting(host, rest),
        // A newer node's kind of event: not for us.
        _ => {}
    }
    Some(())
}

#[async_trait]
impl Presence for RedisPresence {
    async fn subscribe(&self, sink: Arc<dyn PresenceSink>) -> Result<(), Unavailable> {
        // Before the subscription: what happens from then on is heard.
        let (messages, disturbances) = (self.redis.subscriber().message_rx(), self.redis.disturbances());
        let first = self.redis.subscribe(CHANNEL).await;
        tokio::spawn(self.clone().listen(sink, messages, disturbances, first.is_ok()));
        first
    }

    async fn enter(&self, host: HostUuid) -> Result<(), Unavailable> {
        let set = format!("pt:node:{}:hosts", self.redis.node());
        // First, so that whoever cleans up after this node finds the host.
        call(|| self.redis.client().sadd::<(), _, _>(&set, host.as_str())).await?;
        self.set(host, "1").await
    }

    async fn leave(&self, host: HostUuid) -> Result<(), Unavailable> {
        self.set(host, "0").await?;
        let set = format!("pt:node:{}:hosts", self.redis.node());
        call(|| self.redis.client().srem::<(), _, _>(&set, host.as_str())).await
    }

    async fn is_online(&self, host: HostUuid) -> Result<bool, Unavailable> {
        let fields: Vec<String> = call(|| self.redis.client().hkeys(key(host))).await?;
        Ok(fields.iter().any(|field| field.starts_with("n:")))
    }

    async fn adopt_orphans(&self, adopt: bool) -> Result<u64, Unavailable> {
        orphans::adopt(&self.redis, adopt).await
    }

    async fn greet(&self, host: HostUuid, frame: Bytes) -> Result<(), Unavailable> {
        let mut event = format!("G{host} ").into_bytes();
        event.extend_from_slice(&frame);
        let event = Bytes::from(event);
        call(|| self.redis.client().publish::<(), _, _>(CHANNEL, event.clone())).await
    }
}
