//! Presence of a single node: what it knows is all there is.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{Presence, PresenceSink};
use crate::broker::Unavailable;
use crate::domain::HostUuid;

/// The driver.
#[derive(Default)]
pub struct MemoryPresence {
    online: Mutex<HashSet<HostUuid>>,
    sink: OnceLock<Arc<dyn PresenceSink>>,
}

impl std::fmt::Debug for MemoryPresence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryPresence").field("online", &self.online).finish_non_exhaustive()
    }
}

impl MemoryPresence {
    fn tell(&self, tell: impl FnOnce(&dyn PresenceSink)) {
        if let Some(sink) = self.sink.get() {
            tell(&**sink);
        }
    }
}

#[async_trait]
impl Presence for MemoryPresence {
    async fn subscribe(&self, sink: Arc<dyn PresenceSink>) -> Result<(), Unavailable> {
        self.sink.set(sink).map_err(|_| Unavailable("already subscribed".into()))
    }

    async fn enter(&self, host: HostUuid) -> Result<(), Unavailable> {
        // Told under the lock: what sinks hear has the order of what happened.
        let mut online = self.online.lock();
        if online.insert(host) {
            self.tell(|sink| sink.presence(host, true));
        }
        Ok(())
    }

    async fn leave(&self, host: HostUuid) -> Result<(), Unavailable> {
        let mut online = self.online.lock();
        if online.remove(&host) {
            self.tell(|sink| sink.presence(host, false));
        }
        Ok(())
    }

    async fn is_online(&self, host: HostUuid) -> Result<bool, Unavailable> {
        Ok(self.online.lock().contains(&host))
    }

    async fn greet(&self, host: HostUuid, frame: Bytes) -> Result<(), Unavailable> {
        self.tell(|sink| sink.greeting(host, &frame));
        Ok(())
    }
}
