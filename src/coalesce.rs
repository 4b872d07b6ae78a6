//! Coalesces values of a key: the first is sent at once, then at most one per interval, the newest.
//!
//! **Invariant:** a value is replaced only by a newer one of the same key, and a key without values leaves nothing behind.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dashmap::{DashMap, Entry};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Coalescer<K: Eq + Hash> {
    interval: Duration,
    /// Keys of which a value was sent within the interval, each with the newest value that waits.
    recent: Arc<DashMap<K, Option<Bytes>>>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl<K: Copy + Eq + Hash + Send + Sync + 'static> Coalescer<K> {
    pub(crate) fn new(interval: Duration, tracker: TaskTracker, stop: CancellationToken) -> Self {
        Self { interval, recent: Arc::default(), tracker, stop }
    }

    /// Returns whether the caller is to send the value now. If not, it is sent by the task that was given to
    /// [`follow`](Self::follow), unless a newer one replaces it; `value` is called only then.
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

    /// Sends what comes after the first value, once per interval for as long as there is something new.
    pub(crate) fn follow<F>(&self, key: K, send: impl Fn(Bytes) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send,
    {
        let this = self.clone();
        self.tracker.spawn(async move {
            loop {
                let on = this.stop.run_until_cancelled(tokio::time::sleep(this.interval)).await.is_some();
                let newest = this.recent.get_mut(&key).and_then(|mut waiting| waiting.take());
                match newest {
                    Some(value) if on => send(value).await,
                    // Only if nothing came in between: what came is sent in its turn.
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
