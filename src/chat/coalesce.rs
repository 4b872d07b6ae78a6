//! Coalesces values per key. The first value is sent at once, later values at most once per interval. If several values
//! wait, only the newest is sent.
//!
//! **Invariant:** a waiting value is replaced only by a newer value of the same key. A key without recent values
//! occupies no memory.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dashmap::{DashMap, Entry};

use crate::backend::shutdown::Shutdown;

/// Limits values to one per key and interval; see the module documentation.
#[derive(Clone, Debug)]
pub(crate) struct Coalescer<K: Eq + Hash> {
    interval: Duration,
    /// Keys whose last value was sent less than one interval ago, each with the newest waiting value.
    recent: Arc<DashMap<K, Option<Bytes>>>,
    shutdown: Shutdown,
}

impl<K: Copy + Eq + Hash + Send + Sync + 'static> Coalescer<K> {
    pub(crate) fn new(interval: Duration, shutdown: Shutdown) -> Self {
        Self { interval, recent: Arc::default(), shutdown }
    }

    /// Returns `true` if the caller must send the value now. Otherwise stores the result of `value`, replacing an older
    /// waiting value; the task that [`follow`](Self::follow) started sends it.
    pub(crate) fn is_first(&self, key: K, value: impl FnOnce() -> Bytes) -> bool {
        match self.recent.entry(key) {
            Entry::Occupied(mut waiting) => {
                waiting.insert(Some(value()));
                false
            }
            Entry::Vacant(first) => {
                first.insert(None);
                true
            }
        }
    }

    /// Spawns the task that sends later values of a key, at most one per interval. The task ends after an interval
    /// without a new value, or when the node stops.
    pub(crate) fn follow<F>(&self, key: K, send: impl Fn(Bytes) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send,
    {
        let this = self.clone();
        self.shutdown.spawn(async move {
            loop {
                let on = this.shutdown.until_stopping(tokio::time::sleep(this.interval)).await.is_some();
                let newest = this.recent.get_mut(&key).and_then(|mut waiting| waiting.take());
                match newest {
                    Some(value) if on => send(value).await,
                    // While the node runs, the entry is removed only if no value has arrived since the last check.
                    // Otherwise the next iteration sends the value.
                    _ if this.recent.remove_if(&key, |_, waiting| !on || waiting.is_none()).is_some() => return,
                    _ => {}
                }
            }
        });
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.recent.is_empty()
    }
}
