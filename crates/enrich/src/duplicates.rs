//! Near-duplicate rows, found by MinHash and verified by Jaccard similarity.
//!
//! Rows are compared without their system turns: the rows of an agent share its persona, which says nothing about whether
//! they teach the same.

use chat_format::{Conversation, Message, Role};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clusters::Clusters;
use crate::minhash::RowGrams;

/// When rows count as duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Duplicates {
    /// The similarity (Jaccard of word 3-grams) from which the later of two rows is left out, over all turns but the system's.
    /// Default 0.85; 1 leaves out rows with equal turns only, more than 1 none.
    pub likeness: f64,
}

impl Duplicates {
    /// A similarity that no two rows reach: nothing is left out.
    pub const NEVER: f64 = 2.0;
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
    /// A pair at the threshold is missed with a probability of 1e-6.
    pub fn find(&self, rows: &[Conversation]) -> Vec<Duplicate> {
        if self.likeness > 1.0 {
            return Vec::new();
        }
        let grams = RowGrams::of(rows);
        // Texts that differ only in case or punctuation are not exact duplicates.
        let least = self.likeness.min(NOT_EXACT);
        let mut clusters = Clusters::new(rows.len());
        clusters.join_similar(&grams, least);
        let likeness = |of: usize, row: usize| {
            let near = grams.likeness(of, row, least)?;
            let same = near == 1.0 && turns(&rows[of]).eq(turns(&rows[row]));
            let likeness = if same { 1.0 } else { near.min(NOT_EXACT) };
            (likeness >= self.likeness).then_some(likeness)
        };
        let groups = clusters.groups().into_par_iter().flat_map_iter(|group| {
            let (mut kept, mut found) = (Vec::new(), Vec::new());
            for row in group {
                let alike =
                    |of: &usize| Some(Duplicate { row, of: *of, likeness: likeness(*of, row)? });
                match kept.iter().find_map(alike) {
                    Some(duplicate) => found.push(duplicate),
                    None => kept.push(row),
                }
            }
            found
        });
        let mut found: Vec<_> = groups.collect();
        found.sort_unstable_by_key(|duplicate| duplicate.row);
        found
    }
}

/// The highest likeness of rows that are not equal.
const NOT_EXACT: f64 = 0.999;

/// The messages of a row but the system's.
fn turns(row: &Conversation) -> impl Iterator<Item = &Message> {
    row.messages.iter().filter(|message| message.role != Role::System)
}
