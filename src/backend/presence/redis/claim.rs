//! Removes the presence of a dead node's hosts.
//!
//! Any node may do it. Each step is idempotent, the dead node stays on the list until all its entries are removed, and
//! the next node continues where another has stopped. The claim only avoids duplicate work.

use std::time::Duration;

use fred::prelude::*;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::{AT_ONCE, PART, RedisPresence, Status, Word};
use crate::backend::broker::Unavailable;
use crate::backend::redis::call;
use crate::domain::HostUuid;

/// Duration of a claim to a dead node. It is renewed after each part of its hosts.
const CLAIM_TTL: Duration = Duration::from_secs(2);

impl RedisPresence {
    /// Removes the entries of a dead node, unless another node holds the claim.
    pub(super) async fn claim(&self, dead: &str) -> Result<(), Unavailable> {
        let claim = self.redis.keys()?.shared(&format!("node:{dead}:claim"));
        if !self.hold(&claim).await? {
            return Ok(());
        }
        let mut looked_after = 0;
        loop {
            let part = self.take_back_part(dead).await?;
            looked_after += part;
            if part == 0 {
                break;
            }
            if !self.redis.judges() {
                // This node can no longer judge which nodes are dead.
                return Ok(());
            }
            if !self.hold(&claim).await? {
                return Ok(());
            }
        }
        self.redis.forget_incarnation(dead).await?;
        self.metrics.claims.increment(1);
        if looked_after > 0 {
            tracing::info!(node = dead, hosts = looked_after, "node dead, took over its hosts");
        }
        call(|| self.redis.client().del::<(), _>(&claim)).await
    }

    /// Acquires or renews the claim. Returns `false` if another node holds it.
    async fn hold(&self, claim: &str) -> Result<bool, Unavailable> {
        let args: Vec<Value> = vec![self.redis.node().as_str().into(), (CLAIM_TTL.as_millis() as i64).into()];
        Ok(self.redis.eval(&self.hold, claim, args).await?.as_i64() == Some(1))
    }

    /// Removes all entries of an incarnation.
    pub(super) async fn take_back(&self, dead: &str) -> Result<(), Unavailable> {
        while self.take_back_part(dead).await? > 0 {}
        self.redis.forget_incarnation(dead).await
    }

    /// Removes one part of an incarnation's entries; hosts leave the set last, so that an interruption loses none.
    /// Returns the number of hosts.
    pub(super) async fn take_back_part(&self, dead: &str) -> Result<usize, Unavailable> {
        let set = self.redis.keys()?.hosts_of(dead);
        let names: Vec<String> = call(|| self.redis.client().srandmember(&set, Some(PART))).await?;
        let hosts: Vec<HostUuid> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let said = futures_util::stream::iter(hosts).map(|host| self.say(host, dead, Word::Dead));
        said.buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await?;
        if !names.is_empty() {
            // Removes the names as read: one that is not a host's could never be processed, and must not stay in the
            // set.
            call(|| self.redis.client().srem::<(), _, _>(&set, names.clone())).await?;
        }
        Ok(names.len())
    }

    /// Returns the status of a host, and the incarnations in its hash.
    pub(super) async fn read(&self, host: HostUuid) -> Result<(Status, Vec<String>), Unavailable> {
        let key = self.redis.keys()?.presence(host);
        let fields: Vec<(String, String)> = call(|| self.redis.client().hgetall(&key)).await?;
        let version = fields.iter().find(|(name, _)| name == "version");
        let version = version.and_then(|(_, version)| version.parse().ok()).unwrap_or_default();
        let nodes: Vec<String> =
            fields.iter().filter_map(|(name, _)| name.strip_prefix("n:")).map(str::to_owned).collect();
        Ok((Status { online: !nodes.is_empty(), version }, nodes))
    }

    /// Returns the dead ones of these incarnations, if all are dead; else none. Also covers nodes whose set of hosts
    /// was lost.
    pub(super) async fn dead_among(&self, incarnations: Vec<String>) -> Result<Vec<String>, Unavailable> {
        for fresh in [false, true] {
            if incarnations.is_empty() || !self.redis.judges() {
                return Ok(Vec::new());
            }
            let alive = self.redis.live_incarnations(fresh).await?;
            if incarnations.iter().any(|node| alive.contains(node)) {
                return Ok(Vec::new());
            }
        }
        // Reading the fresh list may have shown that this node's own lease is lost.
        Ok(if self.redis.judges() { incarnations } else { Vec::new() })
    }
}
