//! Presence of a cluster. Each host has a hash of the nodes that have status sockets of the host. All nodes subscribe
//! to one channel. It carries status changes (`S<host> <0|1> <version>`) and guests' notices (`G<host> <frame>`).
//!
//! Each node also has a set of its hosts. After the death of the node, another node reads this set to find the entries
//! that it must remove ([`claim`]). The set is written before the hash, so every host in a hash is in a set. The field
//! in the hash and the name of the set contain the node's incarnation. A node writes no entries with an incarnation
//! whose lease has ended. If the node continues as its next incarnation, the removal of the old entries therefore does
//! not affect its new entries.
//!
//! **Invariant:** a host is online as long as its hash contains a node, and only changes of the hash are published. A
//! reader never derives the status of a host from the liveness of nodes. Instead, it removes dead nodes from the hash,
//! and this change is published to all nodes.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use fred::prelude::*;
use futures_util::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;

use crate::backend::Unavailable;
use crate::backend::keyed_mutex::KeyedMutex;
use crate::backend::metrics::PresenceMetrics;
use crate::backend::presence::{Presence, PresenceSink, PresenceUpkeep, Status};
use crate::backend::redis::{HOLD_LEASE, Redis, Script, call};
use crate::domain::HostUuid;

mod claim;
mod listener;
mod orphans;

/// Maximum number of hosts for which entries are written concurrently.
const AT_ONCE: usize = 64;

/// Maximum number of hosts that one command adds to a set.
const PART: usize = 500;

/// Driver of [`Presence`] over Redis.
#[derive(Clone, Debug)]
pub struct RedisPresence {
    redis: Redis,
    script: Arc<Script>,
    /// Script that acquires the claim on a dead node's entries.
    hold: Arc<Script>,
    /// Serialises the writes for each host.
    locks: KeyedMutex,
    own: Arc<Mutex<Own>>,
    metrics: Arc<PresenceMetrics>,
}

/// Hosts that this node has reported online, and the incarnations with which it wrote their entries.
#[derive(Debug, Default)]
struct Own {
    hosts: HashSet<HostUuid>,
    /// Incarnation with which the entries of all hosts have been written.
    whole: Option<String>,
    /// Incarnations with which at least one entry was written.
    written: Vec<String>,
}

/// Change to the entry of a node in a host's hash.
#[derive(Clone, Copy, Debug)]
enum Report {
    Has,
    None,
    Dead,
}

impl Report {
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
        let script = Arc::new(Script::new(include_str!("presence/presence.lua")));
        let hold = Arc::new(Script::new(HOLD_LEASE));
        Self { redis, script, hold, locks: KeyedMutex::default(), own: Arc::default(), metrics: Arc::default() }
    }

    async fn write(&self, host: HostUuid, incarnation: &str, report: Report) -> Result<Status, Unavailable> {
        let keys = self.redis.keys()?;
        let args: Vec<Value> =
            vec![incarnation.into(), report.as_str().into(), keys.status().into(), host.as_str().into()];
        let answer = self.redis.eval(&self.script, keys.presence(host), args).await?;
        let (online, version, is_new) = answer.convert::<(bool, u64, bool)>()?;
        if is_new {
            self.metrics.count(online);
        }
        Ok(Status { online, version })
    }

    /// Writes the entries of all hosts of this node with the current incarnation, unless they have been written with
    /// it. Then removes the entries of earlier incarnations.
    async fn write_again(&self) -> Result<(), Unavailable> {
        let incarnation = self.redis.incarnation()?;
        let hosts = self.own.lock().unwritten(&incarnation);
        for part in hosts.chunks(PART) {
            self.add(&incarnation, part).await?;
            let written = futures_util::stream::iter(part.to_vec()).map(|host| self.enter_again(host, &incarnation));
            written.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        }
        let left = self.own.lock().all_written(incarnation);
        for earlier in left {
            self.remove_all(&earlier).await?;
            self.own.lock().written.retain(|written| *written != earlier);
        }
        Ok(())
    }

    async fn enter_again(&self, host: HostUuid, incarnation: &str) -> Result<(), Unavailable> {
        let _lock = self.locks.lock(host.as_bytes()).await;
        // The host may have left since the list of hosts was read.
        if self.own.lock().hosts.contains(&host) {
            self.write(host, incarnation, Report::Has).await?;
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

    /// Returns the hosts whose entries must be written with an incarnation. Returns all hosts of this node, or none if
    /// all of them have been written with this incarnation.
    fn unwritten(&mut self, incarnation: &str) -> Vec<HostUuid> {
        if self.whole.as_deref() == Some(incarnation) {
            return Vec::new();
        }
        self.writes_under(incarnation);
        self.hosts.iter().copied().collect()
    }

    /// Records that the entries of all hosts have been written with an incarnation. Returns the earlier incarnations
    /// that may still have entries.
    fn all_written(&mut self, incarnation: String) -> Vec<String> {
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
        let _lock = self.locks.lock(host.as_bytes()).await;
        // The host is inserted before the incarnation is read. If a new incarnation begins after this read, the node
        // writes the entries of all hosts in `hosts` again.
        self.own.lock().hosts.insert(host);
        let incarnation = self.redis.incarnation()?;
        self.own.lock().writes_under(&incarnation);
        // The set is written before the hash. If this node dies in between, the node that removes its entries finds the
        // host in the set.
        self.add(&incarnation, &[host]).await?;
        self.write(host, &incarnation, Report::Has).await.map(|_| ())
    }

    async fn leave(&self, host: HostUuid) -> Result<(), Unavailable> {
        let _lock = self.locks.lock(host.as_bytes()).await;
        self.own.lock().hosts.remove(&host);
        let incarnation = self.redis.incarnation()?;
        self.write(host, &incarnation, Report::None).await?;
        self.remove(&incarnation, &[host]).await
    }

    async fn status(&self, host: HostUuid) -> Result<Status, Unavailable> {
        let (mut status, nodes) = self.read(host).await?;
        for dead in self.dead_among(nodes).await? {
            status = self.write(host, &dead, Report::Dead).await?;
        }
        Ok(status)
    }

    async fn greet(&self, host: HostUuid, frame: Bytes) -> Result<(), Unavailable> {
        let mut event = format!("G{host} ").into_bytes();
        event.extend_from_slice(&frame);
        let event = Bytes::from(event);
        let channel = self.redis.keys()?.status();
        call(|| self.redis.client().publish::<(), _, _>(channel, event.clone())).await
    }
}

#[async_trait]
impl PresenceUpkeep for RedisPresence {
    async fn keep(&self) -> Result<(), Unavailable> {
        self.write_again().await?;
        for dead in self.redis.dead_incarnations().iter() {
            self.claim(dead).await?;
        }
        Ok(())
    }
    async fn adopt_orphans(&self, adopt: bool) -> Result<u64, Unavailable> {
        orphans::adopt(&self.redis, adopt).await
    }
}
