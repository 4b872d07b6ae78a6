//! Host presence of a single-node server, kept in memory.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::backend::Unavailable;
use crate::backend::metrics::PresenceMetrics;
use crate::backend::presence::{Presence, PresenceSink, Status};
use crate::domain::HostUuid;

/// Driver of [`Presence`] for a single-node server.
#[derive(Default)]
pub struct MemoryPresence {
    known: Mutex<OnlineHosts>,
    sink: OnceLock<Arc<dyn PresenceSink>>,
    metrics: PresenceMetrics,
}

/// Online hosts with the versions of their statuses, and the highest version that was assigned to any host.
#[derive(Debug, Default)]
struct OnlineHosts {
    online: HashMap<HostUuid, u64>,
    version: u64,
}

impl std::fmt::Debug for MemoryPresence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryPresence").field("known", &self.known).finish_non_exhaustive()
    }
}

impl MemoryPresence {
    fn notify(&self, notify: impl FnOnce(&dyn PresenceSink)) {
        if let Some(sink) = self.sink.get() {
            notify(&**sink);
        }
    }

    fn set(&self, host: HostUuid, online: bool) {
        // The sink is called while the lock is held, so that it receives events in the order of the changes.
        let mut known = self.known.lock();
        if known.online.contains_key(&host) == online {
            return;
        }
        known.version += 1;
        let version = known.version;
        if online {
            known.online.insert(host, version);
        } else {
            known.online.remove(&host);
        }
        self.metrics.count(online);
        self.notify(|sink| sink.presence(host, Status { online, version }));
    }
}

#[async_trait]
impl Presence for MemoryPresence {
    async fn subscribe(&self, sink: Arc<dyn PresenceSink>) -> Result<(), Unavailable> {
        self.sink.set(sink).map_err(|_| Unavailable("already subscribed".into()))
    }

    async fn enter(&self, host: HostUuid) -> Result<(), Unavailable> {
        self.set(host, true);
        Ok(())
    }

    async fn leave(&self, host: HostUuid) -> Result<(), Unavailable> {
        self.set(host, false);
        Ok(())
    }

    async fn status(&self, host: HostUuid) -> Result<Status, Unavailable> {
        let known = self.known.lock();
        // The versions of offline hosts are not stored. The result contains `known.version` instead, because it is not
        // lower than the version of any change.
        let (online, version) = known.online.get(&host).map_or((false, known.version), |version| (true, *version));
        Ok(Status { online, version })
    }

    async fn greet(&self, host: HostUuid, frame: Bytes) -> Result<(), Unavailable> {
        self.notify(|sink| sink.greeting(host, &frame));
        Ok(())
    }
}
