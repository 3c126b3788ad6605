//! Near-duplicate rows, found by MinHash and verified by Jaccard similarity.
//!
//! Rows are compared without their system turns: the rows of an agent share its persona, which says nothing about whether
//! they teach the same.

use chat_format::{Conversation, Message, Role};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::minhash::{Bands, RowGrams};

/// Keys of a row in the index.
const BANDS: usize = 32;

/// Rows that are compared with the earlier ones in parallel, then with each other. The result does not depend on it.
const BLOCK: usize = 2048;

/// When rows count as duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Duplicates {
    /// The similarity (Jaccard of word 3-grams) from which the later of two rows is left out, over all turns but the system's.
    /// Default 0.85; 1 leaves out rows with equal turns only.
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
    /// The rows that duplicate an earlier one which is itself kept, ascending, each with the first such row. Two rows that
    /// differ in their system turns only are duplicates.
    ///
    /// A pair at the threshold is missed with a probability of 1e-6 (from a likeness of 0.65 on).
    pub fn find(&self, rows: &[Conversation]) -> Vec<Duplicate> {
        let search = Search { rows, grams: &RowGrams::of(rows), likeness: self.likeness };
        let mut kept = Kept::new(Bands::new(BANDS, self.likeness), rows.len());
        let mut found = Vec::new();
        for start in (0..rows.len()).step_by(BLOCK) {
            let block = start..rows.len().min(start + BLOCK);
            let compared = block.into_par_iter().map(|row| {
                let keys = kept.keys(search.grams.row(row));
                let earlier = search.first(row, kept.candidates(&keys, 0));
                (row, keys, earlier)
            });
            for (row, keys, earlier) in compared.collect::<Vec<_>>() {
                match earlier.or_else(|| search.first(row, kept.candidates(&keys, start))) {
                    Some(duplicate) => found.push(duplicate),
                    None => kept.add(row, &keys),
                }
            }
        }
        found
    }
}

/// What rows are compared by.
struct Search<'a> {
    rows: &'a [Conversation],
    grams: &'a RowGrams,
    likeness: f64,
}

impl Search<'_> {
    /// The row as a duplicate of the first of the candidates that it is similar enough to.
    fn first(&self, row: usize, candidates: Vec<u32>) -> Option<Duplicate> {
        candidates.into_iter().find_map(|of| {
            let of = of as usize;
            let near = || self.grams.likeness(of, row, self.likeness.min(0.999));
            // Turns that differ in case, punctuation or reasoning only are not equal.
            let likeness = if turns(&self.rows[of]).eq(turns(&self.rows[row])) {
                1.0
            } else {
                near()?.min(0.999)
            };
            (likeness >= self.likeness).then_some(Duplicate { row, of, likeness })
        })
    }
}

/// The messages of a row but the system's.
fn turns(row: &Conversation) -> impl Iterator<Item = &Message> {
    row.messages.iter().filter(|message| message.role != Role::System)
}

/// The kept rows by their keys: one chained hash table per band, newest row first, in 8 bytes per row and band.
struct Kept {
    bands: Bands,
    /// The rows, ascending.
    rows: Vec<u32>,
    /// The keys of each row, `bands` each.
    keys: Vec<u32>,
    /// The next older entry in the same chain, plus one; 0 at the end.
    older: Vec<u32>,
    /// The newest entry of each chain, plus one; `slots` for each band.
    newest: Vec<u32>,
    slots: usize,
}

impl Kept {
    fn new(bands: Bands, rows: usize) -> Kept {
        let slots = rows.next_power_of_two();
        let newest = vec![0; slots * bands.bands];
        Kept { bands, rows: Vec::new(), keys: Vec::new(), older: Vec::new(), newest, slots }
    }

    fn keys(&self, grams: &[u32]) -> [u32; BANDS] {
        std::array::from_fn(|band| self.bands.key(grams, band))
    }

    fn chain(&self, band: usize, key: u32) -> usize {
        band * self.slots + (key as usize & (self.slots - 1))
    }

    /// The kept rows from number `from` on that share a key, ascending.
    fn candidates(&self, keys: &[u32; BANDS], from: usize) -> Vec<u32> {
        let mut rows = Vec::new();
        for (band, key) in keys.iter().enumerate() {
            let mut entry = self.newest[self.chain(band, *key)] as usize;
            while entry > 0 {
                let row = self.rows[entry - 1];
                if (row as usize) < from {
                    break;
                }
                let at = (entry - 1) * BANDS + band;
                if self.keys[at] == *key {
                    rows.push(row);
                }
                entry = self.older[at] as usize;
            }
        }
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    fn add(&mut self, row: usize, keys: &[u32; BANDS]) {
        self.rows.push(row as u32);
        let entry = self.rows.len() as u32;
        for (band, key) in keys.iter().enumerate() {
            let chain = self.chain(band, *key);
            self.keys.push(*key);
            self.older.push(std::mem::replace(&mut self.newest[chain], entry));
        }
    }
}
