//! Seeded randomness keyed by item, so that adding an entry does not reshuffle the others.
//!
//! Everything random in this crate (shuffles and draws) uses [`rng`] with a label of its own.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// A ChaCha8 generator seeded with SHA-256 of `seed` (little-endian) and `label`: the same on every machine.
pub(crate) fn rng(seed: u64, label: &str) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(label.as_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}
