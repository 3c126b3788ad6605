//! What became of the rows of a data set.

use chat_format::clean::SOURCE_ROW;
use enrich::Dataset;
use enrich::left_out::Reason;
use enrich::split::Split;
use serde::{Deserialize, Serialize};

/// What became of the rows of the data set, the rows read apart from the generated ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SplitAccount {
    /// Whether the splits were given.
    pub as_given: bool,
    /// Rows read in train, valid and test.
    pub read: [u64; 3],
    pub duplicates: u64,
    pub near_duplicates: u64,
    pub leaks: u64,
    /// Generated rows in all splits.
    pub made: u64,
    pub made_left_out: u64,
}

impl SplitAccount {
    /// The number of rows read in a split.
    pub fn read_of(&self, split: Split) -> u64 {
        self.read[split as usize]
    }

    pub fn of(dataset: &Dataset) -> Self {
        let mut account =
            Self { as_given: dataset.report.splits == enrich::Origin::Given, ..Self::default() };
        for split in Split::ALL {
            for row in dataset.of(split) {
                match row.meta.contains_key(SOURCE_ROW) {
                    true => account.read[split as usize] += 1,
                    false => account.made += 1,
                }
            }
        }
        for row in &dataset.report.left_out {
            let count = match row.reason {
                _ if row.made => &mut account.made_left_out,
                Reason::DuplicateOf { .. } => &mut account.duplicates,
                Reason::LeakOf { .. } => &mut account.leaks,
                _ => &mut account.near_duplicates,
            };
            *count += 1;
        }
        account
    }
}
