//! Removal of the presence entries of a dead node.
//!
//! Any node may remove them. Each step is idempotent. The dead node stays on the list of nodes until all its entries
//! are removed, so another node can continue an interrupted removal. The claim is a short lease on the removal. It only
//! avoids duplicate work.

use std::time::Duration;

use fred::prelude::*;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::{AT_ONCE, PART, RedisPresence, Report};
use crate::backend::Unavailable;
use crate::backend::presence::Status;
use crate::backend::redis::call;
use crate::domain::HostUuid;

/// Duration of a claim on a dead node. The claim is renewed after each batch of hosts.
const CLAIM_TTL: Duration = Duration::from_secs(2);

impl RedisPresence {
    /// Removes the entries of a dead node. Does nothing if another node holds the claim on it.
    pub(super) async fn claim(&self, dead: &str) -> Result<(), Unavailable> {
        let claim = self.redis.keys()?.shared(&format!("node:{dead}:claim"));
        if !self.hold(&claim).await? {
            return Ok(());
        }
        let mut removed = 0;
        loop {
            let part = self.remove_part(dead).await?;
            removed += part;
            if part == 0 {
                break;
            }
            if !self.redis.can_judge() {
                // This node may no longer treat other nodes as dead.
                return Ok(());
            }
            if !self.hold(&claim).await? {
                return Ok(());
            }
        }
        self.redis.forget_incarnation(dead).await?;
        self.metrics.claims.increment(1);
        if removed > 0 {
            tracing::info!(node = dead, hosts = removed, "removed presence entries of dead node");
        }
        call(|| self.redis.client().del::<(), _>(&claim)).await
    }

    /// Acquires or renews a claim. Returns `false` if another node holds the claim.
    async fn hold(&self, claim: &str) -> Result<bool, Unavailable> {
        let args: Vec<Value> = vec![self.redis.node().as_str().into(), (CLAIM_TTL.as_millis() as i64).into()];
        Ok(self.redis.eval(&self.hold, claim, args).await?.as_i64() == Some(1))
    }

    /// Removes all entries of an incarnation, and then removes the incarnation from the list of nodes.
    pub(super) async fn remove_all(&self, dead: &str) -> Result<(), Unavailable> {
        while self.remove_part(dead).await? > 0 {}
        self.redis.forget_incarnation(dead).await
    }

    /// Removes one batch of an incarnation's entries. The hosts of the batch are removed from the set last, so that an
    /// interrupted removal can be continued. Returns the number of hosts in the batch.
    pub(super) async fn remove_part(&self, dead: &str) -> Result<usize, Unavailable> {
        let set = self.redis.keys()?.hosts_of(dead);
        let names: Vec<String> = call(|| self.redis.client().srandmember(&set, Some(PART))).await?;
        let hosts: Vec<HostUuid> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let written = futures_util::stream::iter(hosts).map(|host| self.write(host, dead, Report::Dead));
        written.buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await?;
        if !names.is_empty() {
            // All names are removed, including names that are not valid host ids. Invalid names would otherwise stay in
            // the set forever.
            call(|| self.redis.client().srem::<(), _, _>(&set, names.clone())).await?;
        }
        Ok(names.len())
    }

    /// Returns the status of a host, and the incarnations in the host's hash.
    pub(super) async fn read(&self, host: HostUuid) -> Result<(Status, Vec<String>), Unavailable> {
        let key = self.redis.keys()?.presence(host);
        let fields: Vec<(String, String)> = call(|| self.redis.client().hgetall(&key)).await?;
        let version = fields.iter().find(|(name, _)| name == "version");
        let version = version.and_then(|(_, version)| version.parse().ok()).unwrap_or_default();
        let nodes: Vec<String> =
            fields.iter().filter_map(|(name, _)| name.strip_prefix("n:")).map(str::to_owned).collect();
        Ok((Status { online: !nodes.is_empty(), version }, nodes))
    }

    /// Returns `incarnations` if all of them are dead, and an empty list otherwise. The result also contains dead
    /// incarnations whose set of hosts was lost.
    pub(super) async fn dead_among(&self, incarnations: Vec<String>) -> Result<Vec<String>, Unavailable> {
        for fresh in [false, true] {
            if incarnations.is_empty() || !self.redis.can_judge() {
                return Ok(Vec::new());
            }
            let alive = self.redis.live_incarnations(fresh).await?;
            if incarnations.iter().any(|node| alive.contains(node)) {
                return Ok(Vec::new());
            }
        }
        // If the new list showed that this node's own lease is lost, the node must not treat other nodes as dead.
        Ok(if self.redis.can_judge() { incarnations } else { Vec::new() })
    }
}
