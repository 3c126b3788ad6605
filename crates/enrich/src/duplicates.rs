//! Rows that say what another row says already.

use std::collections::HashMap;

use chat_format::Conversation;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::grams::{Grams, mix};

/// 32 bands of 4 minima: two rows of likeness 0.8 share a band with probability 1 - (1 - 0.8^4)^32, all but one in ten
/// million; two of likeness 0.3 in one case of four, and then only cost a comparison.
const BANDS: usize = 32;
const BAND: usize = 4;

/// When rows count as duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Duplicates {
    /// From this likeness (Jaccard of word 3-grams over the whole conversation) on, the later of two rows goes.
    /// Default 0.85; 1 keeps all but exact duplicates.
    pub likeness: f64,
}

impl Default for Duplicates {
    fn default() -> Self {
        Duplicates { likeness: 0.85 }
    }
}

/// A row that repeats an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Duplicate {
    /// The row.
    pub row: usize,
    /// The earlier row, which stays.
    pub of: usize,
    /// How alike they are.
    pub likeness: f64,
}

impl Duplicates {
    /// The rows that repeat an earlier one, ascending.
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
                // Texts that differ only in case or punctuation are alike, but not the same.
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

/// Everything said in a conversation.
pub(crate) fn text(row: &Conversation) -> String {
    let said = row.messages.iter().map(|message| message.content.as_str());
    said.collect::<Vec<_>>().join("\n")
}

/// MinHash: one hash per band, equal for equal sets, likely equal for like ones.
fn sketch(grams: &Grams) -> [u64; BANDS] {
    std::array::from_fn(|band| {
        (0..BAND).fold(0, |hash, i| {
            let salt = mix((band * BAND + i) as u64 + 1);
            let least = grams.hashes().iter().map(|gram| mix(gram ^ salt)).min();
            mix(hash ^ least.unwrap_or(0)).wrapping_add(i as u64)
        })
    })
}
