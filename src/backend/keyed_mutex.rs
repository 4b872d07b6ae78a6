//! Keyed mutex: serialises work per key, for example per room or host. Work on different keys runs concurrently.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

/// Number of mutexes. Keys are assigned by hash, so two keys may share a mutex; work on these keys is then serialised
/// as well.
const PLACES: usize = 256;

/// Set of mutexes to which keys are assigned by hash.
#[derive(Clone, Debug)]
pub struct KeyedMutex(Arc<[Mutex<()>]>);

impl Default for KeyedMutex {
    fn default() -> Self {
        Self((0..PLACES).map(|_| Mutex::new(())).collect())
    }
}

impl KeyedMutex {
    /// Acquires the mutex of a key. The mutex is held until the guard is dropped.
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
