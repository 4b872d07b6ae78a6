//! Presence of a cluster: per host a hash of the nodes that have status sockets of that host, and one channel for
//! changes and guests' notices: `S<host> <0|1> <version>` and `G<host> <frame>`.
//!
//! Each node also has a set of its hosts, so that another node can find them when it is dead ([`claim`]). The set is
//! written before the hash, so every host in a hash is in a set. Both are written under the node's incarnation. After
//! its lease has ended, an incarnation is never written again: removing the entries of a dead one cannot affect what
//! the node writes when it is back.
//!
//! **Invariant:** a host is online as long as the hash contains a node, and only changes of the hash are published. A
//! reader never derives a status from the liveness of nodes: it removes dead nodes from the hash, and that change is
//! published to all.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use fred::prelude::*;
use futures_util::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;

use super::{Presence, PresenceSink, Status};
use crate::backend::broker::Unavailable;
use crate::backend::keyed_mutex::Turns;
use crate::backend::metrics::PresenceMetrics;
use crate::backend::redis::{HOLD_LEASE, Redis, Script, call};
use crate::domain::HostUuid;

mod claim;
mod listener;

mod orphans;

/// Number of hosts written concurrently.
const AT_ONCE: usize = 64;

/// Number of hosts added to a set per command.
const PART: usize = 500;

/// Driver of [`Presence`] over Redis.
#[derive(Clone, Debug)]
pub struct RedisPresence {
    redis: Redis,
    script: Arc<Script>,
    /// Acquires a lease: the claim to a dead node.
    hold: Arc<Script>,
    /// Serialises writes per host.
    turns: Turns,
    own: Arc<Mutex<Own>>,
    metrics: Arc<PresenceMetrics>,
}

/// The presence that this node has reported.
#[derive(Debug, Default)]
struct Own {
    hosts: HashSet<HostUuid>,
    /// Incarnation under which all hosts have been written.
    whole: Option<String>,
    /// Incarnations under which anything was written.
    written: Vec<String>,
}

/// A node's report about a host.
#[derive(Clone, Copy, Debug)]
enum Word {
    Has,
    None,
    Dead,
}

impl Word {
    fn as_str(self) -> &'static str {
        match self {
            Self::Has => "has",
            Self::None => "none",
            Self::Dead => "dead",
        }
    }
}

impl RedisPresence {
    /// Creates the driver over the node's clients.
    pub fn new(redis: Redis) -> Self {
        let script = Arc::new(Script::new(include_str!("presence.lua")));
        let hold = Arc::new(Script::new(HOLD_LEASE));
        Self { redis, script, hold, turns: Turns::default(), own: Arc::default(), metrics: Arc::default() }
    }

    async fn say(&self, host: HostUuid, incarnation: &str, word: Word) -> Result<Status, Unavailable> {
        let keys = self.redis.keys()?;
        let args: Vec<Value> =
            vec![incarnation.into(), word.as_str().into(), keys.status().into(), host.as_str().into()];
        let answer = self.redis.eval(&self.script, keys.presence(host), args).await?;
        let (online, version, is_new) = answer.convert::<(bool, u64, bool)>()?;
        if is_new {
            self.metrics.count(online);
        }
        Ok(Status { online, version })
    }

    /// Writes this node's hosts under a new incarnation, and removes the entries of earlier ones.
    async fn say_again(&self) -> Result<(), Unavailable> {
        let incarnation = self.redis.incarnation()?;
        let hosts = self.own.lock().unsaid(&incarnation);
        for part in hosts.chunks(PART) {
            self.add(&incarnation, part).await?;
            let said = futures_util::stream::iter(part.to_vec()).map(|host| self.enter_again(host, &incarnation));
            said.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        }
        let left = self.own.lock().all_said(incarnation);
        for earlier in left {
            self.take_back(&earlier).await?;
            self.own.lock().written.retain(|written| *written != earlier);
        }
        Ok(())
    }

    async fn enter_again(&self, host: HostUuid, incarnation: &str) -> Result<(), Unavailable> {
        let _turn = self.turns.take(host.as_bytes()).await;
        // The host may have left meanwhile.
        if self.own.lock().hosts.contains(&host) {
            self.say(host, incarnation, Word::Has).await?;
        }
        Ok(())
    }

    async fn add(&self, incarnation: &str, hosts: &[HostUuid]) -> Result<(), Unavailable> {
        let set = self.redis.keys()?.hosts_of(incarnation);
        let members: Vec<&str> = hosts.iter().map(HostUuid::as_str).collect();
        call(|| self.redis.client().sadd::<(), _, _>(&set, members.clone())).await
    }

    async fn remove(&self, incarnation: &str, hosts: &[HostUuid]) -> Result<(), Unavailable> {
        let set = self.redis.keys()?.hosts_of(incarnation);
        let members: Vec<&str> = hosts.iter().map(HostUuid::as_str).collect();
        call(|| self.redis.client().srem::<(), _, _>(&set, members.clone())).await
    }
}

impl Own {
    fn writes_under(&mut self, incarnation: &str) {
        if !self.written.iter().any(|written| written == incarnation) {
            self.written.push(incarnation.to_owned());
        }
    }

    /// Returns the hosts that must be written under an incarnation: all of them, or none if that is done.
    fn unsaid(&mut self, incarnation: &str) -> Vec<HostUuid> {
        if self.whole.as_deref() == Some(incarnation) {
            return Vec::new();
        }
        self.writes_under(incarnation);
        self.hosts.iter().copied().collect()
    }

    /// Records that all hosts are written under an incarnation. Returns earlier incarnations that may have entries
    /// left.
    fn all_said(&mut self, incarnation: String) -> Vec<String> {
        let earlier = self.written.iter().filter(|written| **written != incarnation).cloned().collect();
        self.whole = Some(incarnation);
        earlier
    }
}

#[async_trait]
impl Presence for RedisPresence {
    async fn subscribe(&self, sink: Arc<dyn PresenceSink>) -> Result<(), Unavailable> {
        listener::start(self.redis.clone(), sink).await
    }

    async fn enter(&self, host: HostUuid) -> Result<(), Unavailable> {
        let _turn = self.turns.take(host.as_bytes()).await;
        // Inserted before the incarnation is read: a new incarnation writes all hosts in this set.
        self.own.lock().hosts.insert(host);
        let incarnation = self.redis.incarnation()?;
        self.own.lock().writes_under(&incarnation);
        // The set is written first, so that the node that cleans up after this one finds the host.
        self.add(&incarnation, &[host]).await?;
        self.say(host, &incarnation, Word::Has).await.map(|_| ())
    }

    async fn leave(&self, host: HostUuid) -> Result<(), Unavailable> {
        let _turn = self.turns.take(host.as_bytes()).await;
        self.own.lock().hosts.remove(&host);
        let incarnation = self.redis.incarnation()?;
        self.say(host, &incarnation, Word::None).await?;
        self.remove(&incarnation, &[host]).await
    }

    async fn status(&self, host: HostUuid) -> Result<Status, Unavailable> {
        let (mut status, nodes) = self.read(host).await?;
        for dead in self.dead_among(nodes).await? {
            status = self.say(host, &dead, Word::Dead).await?;
        }
        Ok(status)
    }

    async fn adopt_orphans(&self, adopt: bool) -> Result<u64, Unavailable> {
        orphans::adopt(&self.redis, adopt).await
    }

    async fn greet(&self, host: HostUuid, frame: Bytes) -> Result<(), Unavailable> {
        let mut event = format!("G{host} ").into_bytes();
        event.extend_from_slice(&frame);
        let event = Bytes::from(event);
        let channel = self.redis.keys()?.status();
        call(|| self.redis.client().publish::<(), _, _>(channel, event.clone())).await
    }

    async fn keep(&self) -> Result<(), Unavailable> {
        self.say_again().await?;
        for dead in self.redis.dead_incarnations().iter() {
            self.claim(dead).await?;
        }
        Ok(())
    }
}
