//! Seeded randomness keyed by item, so that adding an entry does not reshuffle the others.
//!
//! Everything random in this crate (shuffles and draws) uses [`rng`] with a label of its own.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// A ChaCha8 generator seeded with the [`key`] of `seed` and `label`: the same on every machine.
pub(crate) fn rng(seed: u64, label: &str) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(key(seed, label))
}

/// SHA-256 of `seed` (little-endian) and `label`.
pub(crate) fn key(seed: u64, label: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(label.as_bytes());
    hash.finalize().into()
}
