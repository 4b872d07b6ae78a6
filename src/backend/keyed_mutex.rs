//! Keyed mutex: serialises work per key, such as a room or a host; work on different keys runs concurrently.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

/// Number of mutexes. Keys that share one only wait for each other.
const PLACES: usize = 256;

/// A mutex per key, from a fixed number of shared mutexes.
#[derive(Clone, Debug)]
pub struct KeyedMutex(Arc<[Mutex<()>]>);

impl Default for KeyedMutex {
    fn default() -> Self {
        Self((0..PLACES).map(|_| Mutex::new(())).collect())
    }
}

impl KeyedMutex {
    /// Waits for the lock of a key. It is held until the guard is dropped.
    pub async fn lock(&self, key: &[u8]) -> MutexGuard<'_, ()> {
        let place = key.iter().fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(*byte)));
        self.0[place % PLACES].lock().await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_key_is_locked_once_at_a_time_and_another_key_independently() {
        let locks = KeyedMutex::default();
        let first = locks.lock(b"a").await;
        assert!(locks.lock(b"a").now_or_never().is_none());
        assert!(locks.lock(b"b").now_or_never().is_some());
        drop(first);
        assert!(locks.lock(b"a").now_or_never().is_some());
    }
}
