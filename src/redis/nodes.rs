//! Who is alive: this node shows that it is, and hears of the others.

use std::sync::Arc;
use std::time::Duration;

use fred::prelude::*;
use tokio::time::Instant;

use super::lease::{Lease, Nodes, Renewal, TTL};
use super::{Disturbances, Redis, Script};
use crate::broker::Unavailable;

/// Its scripts.
#[derive(Debug)]
pub(super) struct Scripts {
    heartbeat: Script,
    end_lease: Script,
    pub(super) live_leases: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        Self {
            heartbeat: Script::new(include_str!("heartbeat.lua")),
            end_lease: Script::new(include_str!("end_lease.lua")),
            live_leases: Script::new(include_str!("live_leases.lua")),
        }
    }
}

/// What `heartbeat.lua` says.
struct Answer {
    life: String,
    /// Who has the lease that was asked for.
    holder: String,
    nodes: Nodes,
}

impl Redis {
    /// Renews this node's lease, or begins another. Returns who is alive.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn heartbeat(&self) -> Result<Arc<[String]>, Unavailable> {
        let renewal = self.lease(|lease| lease.ask(Instant::now()));
        let answer = self.ask_nodes(&renewal).await;
        let Answer { life, holder, nodes } = answer.inspect_err(|_| self.lease(|lease| lease.failed(&renewal)))?;
        let ids = ids(&nodes.alive);
        self.lease(|lease| {
            lease.renewed(&renewal, holder, life.clone());
            lease.list_is(nodes, &life, renewal.at);
        });
        Ok(ids)
    }

    /// The nodes that are alive, at most two seconds ago, or now if `fresh`.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn live_nodes(&self, fresh: bool) -> Result<Arc<[String]>, Unavailable> {
        let alive = self.live_incarnations(fresh).await?;
        Ok(ids(&alive))
    }

    /// The same, each with the number of its incarnation.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn live_incarnations(&self, fresh: bool) -> Result<Arc<[String]>, Unavailable> {
        let known = self.lease(|lease| lease.list(Instant::now()));
        if let Some(nodes) = known.filter(|_| !fresh) {
            return Ok(nodes.alive);
        }
        let question = Renewal::none();
        let Answer { life, nodes, .. } = self.ask_nodes(&question).await?;
        self.lease(|lease| lease.list_is(nodes.clone(), &life, question.at));
        Ok(nodes.alive)
    }

    /// The incarnations that were dead when this node's lease was renewed last. None, if this node cannot tell: its own has to be
    /// unbroken for that.
    pub fn dead_incarnations(&self) -> Arc<[String]> {
        let now = Instant::now();
        let dead = self.lease(|lease| lease.list(now).filter(|_| lease.is_unbroken(now)));
        dead.map(|nodes| nodes.dead).unwrap_or_default()
    }

    /// Whether this node may take others for dead.
    pub fn judges(&self) -> bool {
        self.lease(|lease| lease.is_unbroken(Instant::now()))
    }

    /// Under which name this node may write what others take away when it dies.
    ///
    /// # Errors
    /// [`Unavailable`]: its lease has ended, or may have.
    pub fn incarnation(&self) -> Result<String, Unavailable> {
        let held = self.lease(|lease| lease.incarnation(Instant::now()).map(str::to_owned));
        held.ok_or_else(|| Unavailable("this node has no lease".into()))
    }

    /// Nothing is left of an incarnation: forgets it, if its lease has run out.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn forget_incarnation(&self, incarnation: &str) -> Result<(), Unavailable> {
        self.end_lease(TTL, incarnation).await
    }

    /// Has this node's lease end after a while at most: nobody renews it any more.
    ///
    /// # Errors
    /// [`Unavailable`].
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

    async fn ask_nodes(&self, renewal: &Renewal) -> Result<Answer, Unavailable> {
        let args: Vec<Value> = vec![
            renewal.current.as_str().into(),
            renewal.next.as_str().into(),
            renewal.life.as_str().into(),
            (TTL.as_millis() as i64).into(),
        ];
        let answer = self.eval(&self.shared.scripts.heartbeat, self.keys()?.nodes(), args).await?;
        let (life, holder, alive, dead) = answer.convert::<(String, String, Vec<String>, Vec<String>)>()?;
        Ok(Answer { life, holder, nodes: Nodes { alive: alive.into(), dead: dead.into() } })
    }

    fn lease<T>(&self, what: impl FnOnce(&mut Lease) -> T) -> T {
        what(&mut self.shared.lease.lock())
    }

    /// Begins a new incarnation after whatever a server may have forgotten something by.
    pub(super) async fn lose_lease_when_disturbed(self, mut disturbances: Disturbances) {
        while self.ended.run_until_cancelled(disturbances.next()).await.flatten().is_some() {
            self.lease(Lease::lose);
        }
    }

    /// As if this node's lease had been renewed for as long as it takes to judge others.
    #[cfg(test)]
    pub(crate) fn ripen(&self) {
        self.lease(Lease::ripen);
    }

    /// As if a server had been lost and found.
    #[cfg(test)]
    pub(crate) fn lose_lease(&self) {
        self.lease(Lease::lose);
    }
}

/// What the rooms know nodes by.
fn ids(incarnations: &[String]) -> Arc<[String]> {
    let mut ids: Vec<String> = incarnations.iter().map(|name| id_of(name).to_owned()).collect();
    ids.sort();
    ids.dedup();
    ids.into()
}

/// The node of an incarnation.
pub fn id_of(incarnation: &str) -> &str {
    incarnation.split_once('.').map_or(incarnation, |(id, _)| id)
}
