//! Random number generator that tests can seed. Only this module reads the random source of the operating system.

use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

/// Cryptographic random number generator that tests can seed. Clones share the state.
#[derive(Clone, Debug)]
pub struct Rng(Arc<Mutex<StdRng>>);

impl Rng {
    /// Creates a generator seeded by the operating system.
    #[allow(clippy::disallowed_methods)] // This is the only use of the real random source.
    pub fn from_entropy() -> Self {
        Self(Arc::new(Mutex::new(StdRng::from_rng(&mut rand::rng()))))
    }

    /// Creates a generator that always returns the same numbers for the same seed. Intended for tests.
    pub fn from_seed(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// Returns `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.lock().fill_bytes(&mut bytes);
        bytes
    }

    /// Returns a random number in `0..below`. Returns 0 if `below` is 0.
    pub fn below(&self, below: u64) -> u64 {
        if below == 0 { 0 } else { self.0.lock().random_range(0..below) }
    }
}
