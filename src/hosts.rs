//! Hosts at hand: a small cache over SQL, so that a guest who comes in costs no query.
//!
//! **Invariant:** nothing here is older than [`TTL`], and a host that changed is forgotten at once
//! ([`Hosts::forget`], called on every node).

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;

use crate::domain::{Host, HostId, HostUuid};
use crate::store::{Store, StoreError};

/// How old a cached host may be.
pub const TTL: Duration = Duration::from_secs(5);

/// How many hosts are kept: about 10 MB.
const CAPACITY: u64 = 10_000;

type Found = Option<Arc<Host>>;

/// The cache. Each key asks SQL once at a time, however many wait.
#[derive(Clone, Debug)]
pub struct Hosts {
    store: Store,
    by_id: Cache<HostId, Found>,
    by_uuid: Cache<HostUuid, Found>,
    by_access_key: Cache<String, Found>,
}

fn cache<K: std::hash::Hash + Eq + Send + Sync + 'static>() -> Cache<K, Found> {
    Cache::builder().max_capacity(CAPACITY).time_to_live(TTL).support_invalidation_closures().build()
}

impl Hosts {
    /// Over a store.
    pub fn new(store: Store) -> Self {
        Self { store, by_id: cache(), by_uuid: cache(), by_access_key: cache() }
    }

    /// A host by his row.
    ///
    /// # Errors
    /// As of the store; nothing is cached then.
    pub async fn by_id(&self, id: HostId) -> Result<Found, StoreError> {
        let ask = async { Ok(self.store.host(id).await?.map(Arc::new)) };
        self.by_id.try_get_with(id, ask).await.map_err(unshare)
    }

    /// A host by his public name.
    ///
    /// # Errors
    /// As of the store; nothing is cached then.
    pub async fn by_uuid(&self, uuid: HostUuid) -> Result<Found, StoreError> {
        let ask = async { Ok(self.store.host_by_uuid(uuid).await?.map(Arc::new)) };
        self.by_uuid.try_get_with(uuid, ask).await.map_err(unshare)
    }

    /// A host by his access key.
    ///
    /// # Errors
    /// As of the store; nothing is cached then.
    pub async fn by_access_key(&self, key: &str) -> Result<Found, StoreError> {
        let ask = async { Ok(self.store.host_by_access_key(key).await?.map(Arc::new)) };
        self.by_access_key.try_get_with_by_ref(key, ask).await.map_err(unshare)
    }

    /// Forgets a host who has changed.
    pub fn forget(&self, id: HostId) {
        fn forget<K: std::hash::Hash + Eq + Send + Sync + 'static>(cache: &Cache<K, Found>, id: HostId) {
            let is_his = move |_: &K, found: &Found| found.as_ref().is_some_and(|host| host.id == id);
            if let Err(error) = cache.invalidate_entries_if(is_his) {
                tracing::error!(%error, "a cache of hosts cannot forget");
            }
        }
        forget(&self.by_id, id);
        forget(&self.by_uuid, id);
        forget(&self.by_access_key, id);
    }
}

/// The error of a question that several asked at once.
fn unshare(error: Arc<StoreError>) -> StoreError {
    Arc::unwrap_or_clone(error)
}
