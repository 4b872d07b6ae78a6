//! Turns: what is told of one room or one host is told in its order, while others are told beside it.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

/// How many may have their turn at the same time. Two keys that share a place only wait for each other.
const PLACES: usize = 256;

/// A place for every key.
#[derive(Clone, Debug)]
pub struct Turns(Arc<[Mutex<()>]>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..PLACES).map(|_| Mutex::new(())).collect())
    }
}

impl Turns {
    /// Waits for this key's turn; it ends with the guard.
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
