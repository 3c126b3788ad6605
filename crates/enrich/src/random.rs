//! Chance that can be repeated, and that one entry more in a data file does not reshuffle.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// A generator of its own for every label, the same one for the same seed.
pub(crate) fn rng(seed: u64, label: &str) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(label.as_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}
