//! Ownership of Redis: which installation owns it, and whether this node may use it.
//!
//! **Invariant:** [`Redis::keys`] fails unless the last verification found the id of this installation. Therefore no
//! driver reads or writes a Redis that is unclaimed or belongs to another installation.

use std::sync::OnceLock;

use fred::prelude::*;
use fred::types::SetOptions;
use parking_lot::Mutex;

use super::keys::{INSTALLATION, Keys};
use super::{Redis, Script, call};
use crate::backend::Unavailable;
use crate::backend::broker::Partition;
use crate::domain::{InstallationId, StoreFault};

/// Key that stores the number of partitions for releases without installation ids. This release sets it to 0, so that
/// nodes of those releases do not start.
pub(crate) const EARLIER_PARTITIONS: &str = "pt:partitions";

/// Key of the node leases of releases without installation ids.
const EARLIER_NODES: &str = "pt:nodes";

/// Result of a call to [`Redis::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This installation owns the Redis and may use it.
    Ours,
    /// Another installation owns the Redis. The variant contains its id.
    Other(String),
    /// This installation owns the Redis, but the keys were written for a different number of partitions. The variant
    /// contains this number.
    Partitions(u16),
}

/// Reason why the drivers must not use this Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Suspended {
    Unclaimed,
    Other(String),
    OtherDatabase,
}

/// Ownership of the connected Redis, according to the last verification.
#[derive(Debug, Default)]
pub(super) struct Ownership {
    keys: OnceLock<Keys>,
    state: Mutex<OwnershipState>,
}

#[derive(Debug)]
struct OwnershipState {
    suspended: Option<Suspended>,
    /// Error of the last trial write. `None` if the server accepted the write.
    refuses_writes: Option<StoreFault>,
}

impl Default for OwnershipState {
    fn default() -> Self {
        Self { suspended: Some(Suspended::Unclaimed), refuses_writes: None }
    }
}

/// Lua scripts for the ownership of Redis.
#[derive(Debug)]
pub(super) struct OwnershipScripts {
    open: Script,
}

impl Default for OwnershipScripts {
    fn default() -> Self {
        Self { open: Script::new(include_str!("open.lua")) }
    }
}

impl Redis {
    /// Sets the installation that this node belongs to. The installation determines the names of the keys. Later calls
    /// have no effect.
    pub fn install(&self, id: InstallationId) {
        // The installation of a process never changes, so a second value can be ignored.
        let _already_set = self.shared.ownership.keys.set(Keys::of(id));
    }

    /// Returns the key names of this installation.
    ///
    /// # Errors
    /// Returns [`Unavailable`] while this Redis is unclaimed or belongs to another installation, or while its use is
    /// suspended.
    pub(crate) fn keys(&self) -> Result<&Keys, Unavailable> {
        match &self.shared.ownership.state.lock().suspended {
            None => self.installed(),
            Some(Suspended::Unclaimed) => Err(Unavailable("the owner of this redis has not been verified yet".into())),
            Some(Suspended::Other(found)) => {
                Err(Unavailable(format!("this redis belongs to another installation, {found}").into()))
            }
            Some(Suspended::OtherDatabase) => {
                Err(Unavailable("this node's database differs from the leader's database".into()))
            }
        }
    }

    /// Returns the key names of this installation, even while another installation owns this Redis.
    pub(crate) fn installed(&self) -> Result<&Keys, Unavailable> {
        let keys = self.shared.ownership.keys.get();
        keys.ok_or_else(|| Unavailable("the installation id has not been read from the database yet".into()))
    }

    /// Returns the reason why this node must not use the connected Redis. Returns `None` if the node may use it.
    pub fn suspension(&self) -> Option<String> {
        self.keys().err().map(|error| error.to_string())
    }

    /// Returns the reason why the server rejected the last trial write ([`try_writing`](Self::try_writing)). Returns
    /// `None` if it accepted the write.
    pub fn refuses_writes(&self) -> Option<StoreFault> {
        self.shared.ownership.state.lock().refuses_writes.clone()
    }

    /// Compares the owner of this Redis with the installation of this node. Claims a Redis without an owner. Begins an
    /// epoch in each partition that has none. Then suspends or resumes the use of this Redis.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time. The call then neither suspends nor
    /// resumes the use of this Redis.
    pub async fn verify(&self) -> Result<Owner, Unavailable> {
        let keys = self.installed()?;
        let found = match self.owner().await? {
            Some(found) => found,
            None => self.claim(keys).await?,
        };
        if found != keys.id().as_str() {
            self.suspend(Suspended::Other(found.clone()));
            return Ok(Owner::Other(found));
        }
        let is_new = self.shared.ownership.state.lock().suspended == Some(Suspended::Unclaimed);
        if is_new || self.is_empty(keys).await? {
            if let Some(found) = self.other_layout(keys).await? {
                return Ok(Owner::Partitions(found));
            }
            self.open_partitions(keys).await?;
        }
        let mut state = self.shared.ownership.state.lock();
        if matches!(state.suspended, Some(Suspended::Other(_))) {
            tracing::info!("redis belongs to this installation again, node resumed");
        }
        if state.suspended != Some(Suspended::OtherDatabase) {
            state.suspended = None;
        }
        self.shared.metrics.suspended.set(u8::from(state.suspended.is_some()));
        Ok(Owner::Ours)
    }

    /// Returns the number of unexpired leases of this installation's nodes.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time, or if the installation is not
    /// known yet.
    pub async fn live_leases(&self) -> Result<u64, Unavailable> {
        self.live_leases_in(self.installed()?.nodes()).await
    }

    /// Returns the id of the installation that owns this Redis. Returns `None` if no installation owns it.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time.
    pub async fn owner(&self) -> Result<Option<String>, Unavailable> {
        call(|| self.client().get(INSTALLATION)).await.map_err(|error| self.explain(error))
    }

    /// Starts to use a Redis that this installation owns. Does not claim a Redis without an owner. Commands call this
    /// method if nodes may be running.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time, or if this installation is not the
    /// owner.
    pub async fn attach(&self) -> Result<(), Unavailable> {
        let id = self.installed()?.id();
        match self.owner().await? {
            Some(owner) if owner == id.as_str() => {
                self.shared.ownership.state.lock().suspended = None;
                Ok(())
            }
            Some(owner) => Err(Unavailable(format!("this redis belongs to another installation, {owner}").into())),
            None => Err(Unavailable("this redis belongs to no installation: no node has started on it".into())),
        }
    }

    /// Makes this installation the owner of this Redis. Replaces the previous owner.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time.
    pub async fn adopt(&self) -> Result<(), Unavailable> {
        let id = self.installed()?.id();
        call(|| self.client().set::<(), _, _>(INSTALLATION, id.as_str(), None, None, false)).await
    }

    /// Retires this Redis, so that no node of a cluster uses it any longer. Writes an owner that no running node
    /// accepts. Ends the epoch of every partition, so that no partition accepts messages. When the cluster is started
    /// again, it claims the Redis in a new epoch.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time. The caller must then repeat the
    /// call.
    pub async fn retire(&self) -> Result<(), Unavailable> {
        let keys = self.keys()?;
        let retired = retired(keys.id());
        call(|| self.client().set::<(), _, _>(INSTALLATION, &retired, None, None, false)).await?;
        for partition in (0..self.partitions()).map(Partition) {
            let life = keys.partition(partition, "life");
            call(|| self.client().hdel::<(), _, _>(&life, "mark")).await?;
        }
        let count = keys.shared("partitions");
        call(|| self.client().del::<(), _>(&count)).await
    }

    /// Returns whether this installation has [retired](Self::retire) this Redis.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time.
    pub async fn is_retired(&self) -> Result<bool, Unavailable> {
        let id = self.installed()?.id();
        Ok(self.owner().await?.is_some_and(|owner| owner == retired(id)))
    }

    /// Returns the number of running nodes of releases without installation ids.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time.
    pub async fn earlier_nodes(&self) -> Result<u64, Unavailable> {
        self.live_leases_in(EARLIER_NODES).await
    }

    /// Returns the number of unexpired leases of an installation's nodes.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time.
    pub async fn live_leases_of(&self, id: InstallationId) -> Result<u64, Unavailable> {
        self.live_leases_in(Keys::of(id).nodes()).await
    }

    /// Returns the number of unexpired leases in a sorted set of deadlines (in ms), by the server's clock.
    pub(super) async fn live_leases_in(&self, nodes: &str) -> Result<u64, Unavailable> {
        let script = &self.shared.scripts.live_leases;
        let live = self.eval(script, nodes, vec![super::node_lease::TTL.as_millis() as i64]).await?;
        live.as_u64().ok_or_else(|| Unavailable("redis did not return the number of leases".into()))
    }

    /// Suspends or resumes the use of this Redis. `differs` states whether this node and the leader use different
    /// databases. The use is suspended while it is true.
    pub fn suspend_for_database(&self, differs: bool) {
        let is_suspended = self.shared.ownership.state.lock().suspended == Some(Suspended::OtherDatabase);
        match (differs, is_suspended) {
            (true, false) => self.suspend(Suspended::OtherDatabase),
            (false, true) => {
                tracing::info!("database matches the leader's database, node resumed");
                self.shared.ownership.state.lock().suspended = None;
                self.shared.metrics.suspended.set(0);
            }
            _ => {}
        }
    }

    /// Writes a short-lived key to every partition. Records the reason if the server rejects a write. For example, the
    /// server may be out of memory or read-only, or the user may lack a permission.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis rejects a write or does not answer in time.
    pub async fn try_writing(&self) -> Result<(), Unavailable> {
        let keys = self.keys()?;
        let writes = (0..self.partitions()).map(|at| {
            let key = keys.partition(Partition(at), "trial");
            async move { call(|| self.client().set::<(), _, _>(&key, 1, Some(Expiration::EX(60)), None, false)).await }
        });
        let outcome = futures_util::future::try_join_all(writes).await.map(|_| ());
        let outcome = outcome.map_err(|error| self.explain(error));
        let not_writable = &self.shared.availability.not_writable;
        match &outcome {
            Ok(()) => not_writable.end(),
            Err(Unavailable(fault)) => not_writable.fail(&fault.cause, &fault.detail()),
        }
        self.shared.ownership.state.lock().refuses_writes = outcome.as_ref().err().map(|error| error.0.clone());
        outcome
    }

    fn suspend(&self, why: Suspended) {
        let mut state = self.shared.ownership.state.lock();
        if state.suspended.as_ref() != Some(&why) {
            match &why {
                Suspended::Other(found) => tracing::error!(
                    installation = found,
                    "redis belongs to another installation, node suspended: check --redis-url"
                ),
                Suspended::OtherDatabase => {
                    tracing::error!("database differs from the leader's database, node suspended: check --database-url")
                }
                Suspended::Unclaimed => {}
            }
        }
        state.suspended = Some(why);
        self.shared.metrics.suspended.set(1);
    }

    async fn claim(&self, keys: &Keys) -> Result<String, Unavailable> {
        let id = keys.id();
        let _set: Option<String> =
            call(|| self.client().set(INSTALLATION, id.as_str(), None, Some(SetOptions::NX), false)).await?;
        // Another installation may have claimed this Redis first, so the owner is read again.
        self.owner()
            .await?
            .ok_or_else(|| Unavailable("the installation id was removed from redis during the claim".into()))
    }

    /// Returns whether this Redis is empty. Checks only the key that [`open_partitions`](Self::open_partitions) writes
    /// last.
    async fn is_empty(&self, keys: &Keys) -> Result<bool, Unavailable> {
        let key = keys.shared("partitions");
        let count: Option<u16> = call(|| self.client().get(&key)).await?;
        Ok(count.is_none())
    }

    /// Returns the number of partitions that is stored in Redis. Returns `None` if none is stored or it equals the
    /// number of partitions of this node.
    async fn other_layout(&self, keys: &Keys) -> Result<Option<u16>, Unavailable> {
        let (key, own) = (keys.shared("partitions"), self.partitions());
        let found: Option<u16> = call(|| self.client().get(&key)).await?;
        Ok(found.filter(|found| *found != own))
    }

    async fn open_partitions(&self, keys: &Keys) -> Result<(), Unavailable> {
        // Nodes of releases without installation ids read this key when they start. They do not start if its value is
        // not 16.
        call(|| self.client().set::<(), _, _>(EARLIER_PARTITIONS, 0, None, None, false)).await?;
        for partition in (0..self.partitions()).map(Partition) {
            let key = keys.partition(partition, "life");
            self.eval(&self.shared.ownership_scripts.open, key, Vec::<Value>::new()).await?;
        }
        let (key, count) = (keys.shared("partitions"), i64::from(self.partitions()));
        call(|| self.client().set::<(), _, _>(&key, count, None, None, false)).await
    }
}

/// Returns the owner id that Redis stores while a single-node server uses the database of an installation.
fn retired(id: InstallationId) -> String {
    format!("{id}:single")
}
