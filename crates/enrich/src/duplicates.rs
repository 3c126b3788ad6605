//! Near-duplicate rows, found by MinHash and verified by Jaccard similarity.

use std::collections::HashMap;

use chat_format::Conversation;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::grams::{Grams, mix};

/// MinHash with 32 bands of 4 minima: two rows of similarity 0.8 share a band with probability 1 - (1 - 0.8^4)^32, or
/// 1 - 5e-8; two of similarity 0.3 with probability 0.23, which costs one comparison.
const BANDS: usize = 32;
const BAND: usize = 4;

/// When rows count as duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Duplicates {
    /// The similarity (Jaccard of word 3-grams over the whole conversation) from which the later of two rows is left out.
    /// Default 0.85; 1 leaves out exact duplicates only.
    pub likeness: f64,
}

impl Default for Duplicates {
    fn default() -> Self {
        Duplicates { likeness: 0.85 }
    }
}

/// A row that duplicates an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Duplicate {
    /// The row.
    pub row: usize,
    /// The earlier row, which is kept.
    pub of: usize,
    /// Their similarity, between 0 and 1.
    pub likeness: f64,
}

impl Duplicates {
    /// The rows that duplicate an earlier one, ascending.
    pub fn find(&self, rows: &[Conversation]) -> Vec<Duplicate> {
        let grams: Vec<Grams> = rows.par_iter().map(|row| Grams::of(&text(row), 3)).collect();
        let sketches: Vec<_> = grams.par_iter().map(sketch).collect();
        let mut buckets: HashMap<(usize, u64), Vec<usize>> = HashMap::new();
        let mut found = Vec::new();
        for (row, sketch) in sketches.iter().enumerate() {
            let mut candidates: Vec<usize> = sketch
                .iter()
                .enumerate()
                .filter_map(|(band, hash)| buckets.get(&(band, *hash)))
                .flatten()
                .copied()
                .collect();
            candidates.sort_unstable();
            candidates.dedup();
            let alike = candidates.into_iter().find_map(|of| {
                let same = rows[of].messages == rows[row].messages;
                // Texts that differ only in case or punctuation are not exact duplicates.
                let likeness = if same { 1.0 } else { grams[of].jaccard(&grams[row]).min(0.999) };
                (likeness >= self.likeness).then_some(Duplicate { row, of, likeness })
            });
            match alike {
                Some(duplicate) => found.push(duplicate),
                None => {
                    for (band, hash) in sketch.iter().enumerate() {
                        buckets.entry((band, *hash)).or_default().push(row);
                    }
                }
            }
        }
        found
    }
}

/// The contents of all messages.
pub(crate) fn text(row: &Conversation) -> String {
    let said = row.messages.iter().map(|message| message.content.as_str());
    said.collect::<Vec<_>>().join("\n")
}

/// One hash per band: equal for equal sets, and probably equal in some band for similar ones.
fn sketch(grams: &Grams) -> [u64; BANDS] {
    std::array::from_fn(|band| {
        (0..BAND).fold(0, |hash, i| {
            let salt = mix((band * BAND + i) as u64 + 1);
            let least = grams.hashes().iter().map(|gram| mix(gram ^ salt)).min();
            mix(hash ^ least.unwrap_or(0)).wrapping_add(i as u64)
        })
    })
}
