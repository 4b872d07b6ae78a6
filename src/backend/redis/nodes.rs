//! Implements [`Membership`] on Redis: renews this node's lease, and lists the live and dead nodes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fred::prelude::*;
use tokio::time::Instant;

use super::node_lease::{NodeLease, Nodes, Renewal, TTL};
use super::{Disturbances, Redis, Script};
use crate::backend::Unavailable;
use crate::backend::membership::Membership;

/// Lua scripts for the leases of nodes.
#[derive(Debug)]
pub(super) struct NodeScripts {
    heartbeat: Script,
    end_lease: Script,
    pub(super) live_leases: Script,
}

impl Default for NodeScripts {
    fn default() -> Self {
        Self {
            heartbeat: Script::new(include_str!("heartbeat.lua")),
            end_lease: Script::new(include_str!("end_lease.lua")),
            live_leases: Script::new(include_str!("live_leases.lua")),
        }
    }
}

/// Parsed answer from `heartbeat.lua`.
struct HeartbeatAnswer {
    epoch: String,
    /// Incarnation that holds the lease.
    holder: String,
    nodes: Nodes,
}

impl Redis {
    /// Renews the lease of this node, or acquires a new lease. Returns the ids of the live nodes.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time, or if this node must not use this
    /// Redis.
    pub async fn heartbeat(&self) -> Result<Arc<[String]>, Unavailable> {
        let renewal = self.lease(|lease| lease.begin_renewal(Instant::now()));
        let answer = self.query(&renewal).await;
        let HeartbeatAnswer { epoch, holder, nodes } =
            answer.inspect_err(|_| self.lease(|lease| lease.failed(&renewal)))?;
        let ids = ids(&nodes.alive);
        self.lease(|lease| {
            lease.renewed(&renewal, holder, epoch.clone());
            lease.set_list(nodes, &epoch, renewal.at);
        });
        Ok(ids)
    }

    /// Returns the ids of the live nodes. If `fresh` is false, the list may be up to two seconds old.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time, or if this node must not use this
    /// Redis.
    pub async fn live_nodes(&self, fresh: bool) -> Result<Arc<[String]>, Unavailable> {
        let alive = self.live_incarnations(fresh).await?;
        Ok(ids(&alive))
    }

    /// Returns the live incarnations. If `fresh` is false, the list may be up to two seconds old.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time, or if this node must not use this
    /// Redis.
    pub async fn live_incarnations(&self, fresh: bool) -> Result<Arc<[String]>, Unavailable> {
        let known = self.lease(|lease| lease.list(Instant::now()));
        if let Some(nodes) = known.filter(|_| !fresh) {
            return Ok(nodes.alive);
        }
        let request = Renewal::none();
        let HeartbeatAnswer { epoch, nodes, .. } = self.query(&request).await?;
        self.lease(|lease| lease.set_list(nodes.clone(), &epoch, request.at));
        Ok(nodes.alive)
    }

    /// Returns the dead incarnations, from a list that is at most two seconds old. Returns an empty list if there is no
    /// such list or if this node must not treat other nodes as dead.
    pub fn dead_incarnations(&self) -> Arc<[String]> {
        let now = Instant::now();
        let dead = self.lease(|lease| lease.list(now).filter(|_| lease.is_uninterrupted(now)));
        dead.map(|nodes| nodes.dead).unwrap_or_default()
    }

    /// Returns whether this node may treat other nodes as dead.
    pub fn can_judge(&self) -> bool {
        self.lease(|lease| lease.is_uninterrupted(Instant::now()))
    }

    /// Returns the current incarnation of this node. The node stores it with each entry that it writes. Other nodes
    /// remove the entries of an incarnation after its lease has expired.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if the lease of this node has expired or may have expired.
    pub fn incarnation(&self) -> Result<String, Unavailable> {
        let held = self.lease(|lease| lease.incarnation(Instant::now()).map(str::to_owned));
        held.ok_or_else(|| Unavailable("this node has no lease".into()))
    }

    /// Removes an incarnation from the list of nodes if its lease has expired. The incarnation must have no entries.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time, or if this node must not use this
    /// Redis.
    pub async fn forget_incarnation(&self, incarnation: &str) -> Result<(), Unavailable> {
        self.end_lease(TTL, incarnation).await
    }

    /// Shortens the remaining time of this node's lease to at most `within`. The lease must not be renewed afterwards.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time, or if this node must not use this
    /// Redis.
    pub async fn sign_off(&self, within: Duration) -> Result<(), Unavailable> {
        match self.lease(|lease| lease.last().map(str::to_owned)) {
            Some(incarnation) => self.end_lease(within, &incarnation).await,
            None => Ok(()),
        }
    }

    async fn end_lease(&self, within: Duration, incarnation: &str) -> Result<(), Unavailable> {
        let args: Vec<Value> = vec![(within.as_millis() as i64).into(), incarnation.into()];
        self.eval(&self.shared.scripts.end_lease, self.keys()?.nodes(), args).await.map(|_| ())
    }

    async fn query(&self, renewal: &Renewal) -> Result<HeartbeatAnswer, Unavailable> {
        let args: Vec<Value> = vec![
            renewal.current.as_str().into(),
            renewal.next.as_str().into(),
            renewal.epoch.as_str().into(),
            (TTL.as_millis() as i64).into(),
        ];
        let answer = self.eval(&self.shared.scripts.heartbeat, self.keys()?.nodes(), args).await?;
        let (epoch, holder, alive, dead) = answer.convert::<(String, String, Vec<String>, Vec<String>)>()?;
        Ok(HeartbeatAnswer { epoch, holder, nodes: Nodes { alive: alive.into(), dead: dead.into() } })
    }

    fn lease<T>(&self, what: impl FnOnce(&mut NodeLease) -> T) -> T {
        what(&mut self.shared.lease.lock())
    }

    /// Waits for disturbances until the clients quit. After each one, the next renewal begins a new incarnation.
    pub(super) async fn renew_incarnation_after_disturbances(self, mut disturbances: Disturbances) {
        while self.ended.run_until_cancelled(disturbances.next()).await.flatten().is_some() {
            self.lease(NodeLease::mark_lost);
        }
    }

    /// Simulates that the lease has been renewed without interruption for a full lease duration, so that the node may
    /// treat other nodes as dead.
    #[cfg(test)]
    pub(crate) fn ripen(&self) {
        self.lease(NodeLease::ripen);
    }

    /// Simulates that the connection to a server was lost and restored.
    #[cfg(test)]
    pub(crate) fn lose_lease(&self) {
        self.lease(NodeLease::mark_lost);
    }
}

#[async_trait]
impl Membership for Redis {
    async fn renew(&self) -> Result<(), Unavailable> {
        self.heartbeat().await.map(|_| ())
    }

    fn incarnation(&self) -> Result<String, Unavailable> {
        Redis::incarnation(self)
    }

    async fn live_leases(&self) -> Result<u64, Unavailable> {
        Redis::live_leases(self).await
    }

    async fn sign_off(&self, within: Duration) -> Result<(), Unavailable> {
        Redis::sign_off(self, within).await
    }
}

/// Returns the sorted node ids of incarnations. Rooms store the numbers of connections per node id, not per
/// incarnation.
fn ids(incarnations: &[String]) -> Arc<[String]> {
    let mut ids: Vec<String> = incarnations.iter().map(|name| id_of(name).to_owned()).collect();
    ids.sort();
    ids.dedup();
    ids.into()
}

/// Returns the node id of an incarnation.
pub fn id_of(incarnation: &str) -> &str {
    incarnation.split_once('.').map_or(incarnation, |(id, _)| id)
}
