//! Keyed mutex: serialises work per key, such as a room or a host; work on different keys runs concurrently.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

/// Number of mutexes. Keys that share one only wait for each other.
const PLACES: usize = 256;

/// A mutex per key, from a fixed number of shared mutexes.
#[derive(Clone, Debug)]
pub struct Turns(Arc<[Mutex<()>]>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..PLACES).map(|_| Mutex::new(())).collect())
    }
}

impl Turns {
    /// Waits for the lock of a key. It is held until the guard is dropped.
    pub async fn take(&self, key: &[u8]) -> MutexGuard<'_, ()> {
        let place = key.iter().fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(*byte)));
        self.0[place % PLACES].lock().await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_key_has_one_turn_at_a_time_and_another_key_its_own() {
        let turns = Turns::default();
        let first = turns.take(b"a").await;
        assert!(turns.take(b"a").now_or_never().is_none());
        assert!(turns.take(b"b").now_or_never().is_some());
        drop(first);
        assert!(turns.take(b"a").now_or_never().is_some());
    }
}
