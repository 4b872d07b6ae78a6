//! Keyed mutex. It serialises work on the same key, for example on the same room or host. Work on different keys
//! usually runs concurrently.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

/// Number of mutexes. Each key is assigned to a mutex by its hash. Two keys may share a mutex, and work on them is then
/// serialised as well.
const PLACES: usize = 256;

/// Fixed set of mutexes. Each key is assigned to one of them by its hash.
#[derive(Clone, Debug)]
pub struct KeyedMutex(Arc<[Mutex<()>]>);

impl Default for KeyedMutex {
    fn default() -> Self {
        Self((0..PLACES).map(|_| Mutex::new(())).collect())
    }
}

impl KeyedMutex {
    /// Locks the mutex of a key. Waits while the mutex is locked. Dropping the guard unlocks it.
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
