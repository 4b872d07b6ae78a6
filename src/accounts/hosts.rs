//! Cache of hosts in front of the database, so that guests usually join without a query for the host.
//!
//! **Invariant:** while the database responds in time, no lookup returns a host older than [`TTL`], and a changed host
//! is removed at once ([`Hosts::evict`], called on every node). While the database is unavailable or slow,
//! [`Hosts::by_id`] returns known hosts for up to an hour, so that their rooms stay open.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;

use crate::domain::{Host, HostId, HostUuid};
use crate::store::{KeyHolder, Store, StoreError};

/// Maximum age of a cached host.
pub const TTL: Duration = Duration::from_secs(5);

/// Maximum age of a host that is used while the database is unavailable or slow.
const REMEMBERED: Duration = Duration::from_secs(3_600);

/// Timeout of a query for a host whose last known state is available.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum number of entries per cache of hosts: about 10 MB.
const CAPACITY: u64 = 10_000;

/// Maximum number of entries per cache of unknown keys or ids: about 100 KB.
const UNKNOWN_CAPACITY: u64 = 1_000;

type CachedHost = Option<Arc<Host>>;

/// Cache of hosts by row id, public id and access key. Concurrent lookups of a key share one query.
#[derive(Clone, Debug)]
pub struct Hosts {
    store: Store,
    by_id: Cache<HostId, CachedHost>,
    by_uuid: Cache<HostUuid, Arc<Host>>,
    by_access_key: Cache<String, Arc<KeyHolder>>,
    /// Access keys that belong to no host. They have a small cache of their own, so that invented keys do not evict
    /// valid keys.
    unknown_keys: Cache<String, ()>,
    /// Public ids that belong to no host. They have a small cache of their own for the same reason.
    unknown_uuids: Cache<HostUuid, ()>,
    remembered: Cache<HostId, Arc<Host>>,
}

fn cache<K, V>(ttl: Duration) -> Cache<K, V>
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder().max_capacity(CAPACITY).time_to_live(ttl).support_invalidation_closures().build()
}

/// Creates a cache of keys or ids that belong to no host.
fn unknown<K: std::hash::Hash + Eq + Send + Sync + 'static>() -> Cache<K, ()> {
    Cache::builder().max_capacity(UNKNOWN_CAPACITY).time_to_live(TTL).build()
}

impl Hosts {
    /// Creates an empty cache in front of a store.
    pub fn new(store: Store) -> Self {
        let (by_id, by_uuid, by_access_key) = (cache(TTL), cache(TTL), cache(TTL));
        let (unknown_keys, unknown_uuids) = (unknown(), unknown());
        Self { store, by_id, by_uuid, by_access_key, unknown_keys, unknown_uuids, remembered: cache(REMEMBERED) }
    }

    /// Returns a host by row id, or `None` if it does not exist. While the database is unavailable or slow, returns the
    /// last known state of the host, if there is one.
    ///
    /// # Errors
    /// Returns the error of the store. Nothing is cached in that case.
    pub async fn by_id(&self, id: HostId) -> Result<CachedHost, StoreError> {
        let ask = async { Ok(self.store.hosts().get(id).await?.map(Arc::new)) };
        let asked = self.by_id.try_get_with(id, ask);
        let Some(remembered) = self.remembered.get(&id).await else {
            let found = asked.await.map_err(unshare)?;
            if let Some(host) = &found {
                self.remembered.insert(id, host.clone()).await;
            }
            return Ok(found);
        };
        match tokio::time::timeout(LOOKUP_TIMEOUT, asked).await {
            Ok(Ok(found)) => {
                match &found {
                    Some(host) if !Arc::ptr_eq(host, &remembered) => self.remembered.insert(id, host.clone()).await,
                    Some(_) => {}
                    None => self.remembered.invalidate(&id).await,
                }
                Ok(found)
            }
            Ok(Err(error)) if !matches!(*error, StoreError::Unavailable(_)) => Err(unshare(error)),
            Ok(Err(_)) | Err(_) => Ok(Some(remembered)),
        }
    }

    /// Returns a host by public id, or `None` if it does not exist.
    ///
    /// # Errors
    /// Returns the error of the store. Nothing is cached in that case.
    pub async fn by_uuid(&self, uuid: HostUuid) -> Result<CachedHost, StoreError> {
        if self.unknown_uuids.contains_key(&uuid) {
            return Ok(None);
        }
        let ask = async { self.store.hosts().by_uuid(uuid).await?.map(Arc::new).ok_or(Miss::Unknown) };
        let found = known(self.by_uuid.try_get_with(uuid, ask).await)?;
        if found.is_none() {
            self.unknown_uuids.insert(uuid, ()).await;
        }
        Ok(found)
    }

    /// Returns the holder of a current or replaced access key, or `None` if the key belongs to no host. The key may
    /// have expired: [`Accounts::key_holder`](crate::accounts::Accounts::key_holder) checks its validity.
    ///
    /// # Errors
    /// Returns the error of the store. Nothing is cached in that case.
    pub async fn by_access_key(&self, key: &str) -> Result<Option<Arc<KeyHolder>>, StoreError> {
        if self.unknown_keys.contains_key(key) {
            return Ok(None);
        }
        let ask = async { self.store.keys().holder(key).await?.map(Arc::new).ok_or(Miss::Unknown) };
        let found = known(self.by_access_key.try_get_with_by_ref(key, ask).await)?;
        if found.is_none() {
            self.unknown_keys.insert(key.to_owned(), ()).await;
        }
        Ok(found)
    }

    /// Returns the holder of an access key if it is cached on this node.
    pub async fn cached_by_access_key(&self, key: &str) -> Option<Arc<KeyHolder>> {
        self.by_access_key.get(key).await
    }

    /// Removes all hosts from the cache, because any host may have changed. The hosts can still be used while the
    /// database is unavailable.
    pub fn evict_all(&self) {
        self.by_id.invalidate_all();
        self.by_uuid.invalidate_all();
        self.by_access_key.invalidate_all();
        self.unknown_keys.invalidate_all();
        self.unknown_uuids.invalidate_all();
    }

    /// Removes a changed host from the cache.
    pub fn evict(&self, id: HostId) {
        fn evict<K, V>(cache: &Cache<K, V>, matches: impl Fn(&K, &V) -> bool + Send + Sync + 'static)
        where
            K: std::hash::Hash + Eq + Send + Sync + 'static,
            V: Clone + Send + Sync + 'static,
        {
            if let Err(error) = cache.invalidate_entries_if(matches) {
                tracing::error!(%error, "failed to invalidate host cache");
            }
        }
        let matches = move |found: &CachedHost| found.as_ref().is_some_and(|host| host.id == id);
        evict(&self.by_id, move |_, found| matches(found));
        evict(&self.by_uuid, move |_, host| host.id == id);
        evict(&self.by_access_key, move |_, holder| holder.host.id == id);
        evict(&self.remembered, move |known, _| *known == id);
        self.store.webhooks().forget_subscription(id);
        // One of the unknown keys may belong to the host after the change.
        self.unknown_keys.invalidate_all();
    }
}

/// Reason why a lookup returned no host. Neither case is cached as a host.
#[derive(Debug)]
enum Miss {
    Unknown,
    Store(StoreError),
}

impl From<StoreError> for Miss {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn known<T>(found: Result<T, Arc<Miss>>) -> Result<Option<T>, StoreError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(miss) => match &*miss {
            Miss::Unknown => Ok(None),
            Miss::Store(error) => Err(error.clone()),
        },
    }
}

fn unshare(error: Arc<StoreError>) -> StoreError {
    Arc::unwrap_or_clone(error)
}
