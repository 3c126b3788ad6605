//! The account of a night's rows: every raw row is trained, held out, or on file with the reason why not.

use serde::{Deserialize, Serialize};

use crate::split_account::SplitAccount;
use crate::stages::convert::CleanRows;
use crate::stages::enrich::Splits;
use crate::stages::train::TrainedAdapter;

/// The account of a night's raw rows, written to `rows.json` in the night's folder. Generated rows are counted apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct RowAccount {
    /// Raw rows read.
    pub read: u64,
    /// Rows that cannot be read or cleaned: `convert/refused.jsonl`.
    pub refused: u64,
    /// Rows merged into longer ones that begin with them: `convert/merged.jsonl`.
    pub merged: u64,
    /// Rows equal to earlier ones: `enrich/left-out.jsonl`.
    pub duplicates: u64,
    /// Rows too similar to earlier ones: `enrich/left-out.jsonl`.
    pub near_duplicates: u64,
    /// Rows too similar to exam questions: `enrich/left-out.jsonl`.
    pub leaks: u64,
    /// Rows of the training set that cannot be trained: `train/left-out.jsonl`.
    pub not_trained: u64,
    /// Rows that are trained.
    pub trained: u64,
    /// Rows that are trained in part, because they are longer than `max_seq_length`. They are among those trained;
    /// `train/left-out.jsonl` lists them.
    pub cut: u64,
    /// Rows held out for validation.
    pub validation: u64,
    /// Rows held out for testing.
    pub test: u64,
    /// Generated rows that are trained or held out.
    pub made: u64,
    /// Generated rows that are left out: `enrich/left-out.jsonl` and `train/left-out.jsonl`.
    pub made_left_out: u64,
}

impl RowAccount {
    pub(crate) fn of(clean: &CleanRows, splits: &Splits, trained: &TrainedAdapter) -> Self {
        let SplitAccount { duplicates, near_duplicates, leaks, made_left_out, .. } = splits.account;
        let [train, valid, test] = splits.account.read;
        let aside = &trained.set_aside;
        Self {
            read: clean.rows + clean.refused + clean.merged,
            refused: clean.refused,
            merged: clean.merged,
            duplicates,
            near_duplicates,
            leaks,
            not_trained: aside.train + aside.valid,
            trained: train - aside.train,
            cut: aside.cut,
            validation: valid - aside.valid,
            test,
            made: splits.account.made - aside.made,
            made_left_out: made_left_out + aside.made,
        }
    }

    /// Whether every row read is in exactly one place.
    pub fn adds_up(&self) -> bool {
        let Self { refused, merged, duplicates, near_duplicates, leaks, not_trained, .. } = self;
        let left_out = refused + merged + duplicates + near_duplicates + leaks + not_trained;
        self.read == left_out + self.trained + self.validation + self.test
    }
}
