//! Looking after the hosts of a node that is dead.
//!
//! Any node may, and none is relied on: each step may be repeated, the dead node stays on the list until nothing of it is left,
//! and whoever looks next goes on where another has stopped. That one of them at a time does it only saves work.

use std::time::Duration;

use fred::prelude::*;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::{AT_ONCE, PART, RedisPresence, Status, Word};
use crate::broker::Unavailable;
use crate::domain::HostUuid;
use crate::redis::call;

/// How long the others leave a dead node to whoever said last that he looks after it. He says so with each part of its hosts.
const CLAIM_TTL: Duration = Duration::from_secs(2);

impl RedisPresence {
    /// Looks after a dead node, unless another does.
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
                // What was known of the dead may be wrong by now.
                return Ok(());
            }
            if !self.hold(&claim).await? {
                return Ok(());
            }
        }
        self.redis.forget_incarnation(dead).await?;
        metrics::counter!(crate::metric::CLAIMS).increment(1);
        if looked_after > 0 {
            tracing::info!(node = dead, hosts = looked_after, "node dead, took over its hosts");
        }
        call(|| self.redis.client().del::<(), _>(&claim)).await
    }

    /// Takes or renews the claim. `false`: another node has it.
    async fn hold(&self, claim: &str) -> Result<bool, Unavailable> {
        let args: Vec<Value> = vec![self.redis.node().as_str().into(), (CLAIM_TTL.as_millis() as i64).into()];
        Ok(self.redis.eval(&self.hold, claim, args).await?.as_i64() == Some(1))
    }

    /// Takes back all that was said under an incarnation.
    pub(super) async fn take_back(&self, dead: &str) -> Result<(), Unavailable> {
        while self.take_back_part(dead).await? > 0 {}
        self.redis.forget_incarnation(dead).await
    }

    /// A part of it, so that nothing is forgotten when it is interrupted: out of the set last. Returns of how many hosts.
    pub(super) async fn take_back_part(&self, dead: &str) -> Result<usize, Unavailable> {
        let set = self.redis.keys()?.hosts_of(dead);
        let names: Vec<String> = call(|| self.redis.client().srandmember(&set, Some(PART))).await?;
        let hosts: Vec<HostUuid> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let said = futures_util::stream::iter(hosts).map(|host| self.say(host, dead, Word::Dead));
        said.buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await?;
        if !names.is_empty() {
            // By what was read: nobody could ever look after a name that is no host's.
            call(|| self.redis.client().srem::<(), _, _>(&set, names.clone())).await?;
        }
        Ok(names.len())
    }

    /// A host as his hash has him, and the incarnations in it.
    pub(super) async fn read(&self, host: HostUuid) -> Result<(Status, Vec<String>), Unavailable> {
        let key = self.redis.keys()?.presence(host);
        let fields: Vec<(String, String)> = call(|| self.redis.client().hgetall(&key)).await?;
        let version = fields.iter().find(|(name, _)| name == "version");
        let version = version.and_then(|(_, version)| version.parse().ok()).unwrap_or_default();
        let nodes: Vec<String> =
            fields.iter().filter_map(|(name, _)| name.strip_prefix("n:")).map(str::to_owned).collect();
        Ok((Status { online: !nodes.is_empty(), version }, nodes))
    }

    /// If none of them lives, who of them is dead: also of those whose list of hosts was lost.
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
        // Judged by the list that was just asked for, and only if it gave no reason to doubt.
        Ok(if self.redis.judges() { incarnations } else { Vec::new() })
    }
}
