//! The replay rows by which `nightshift.retention` measures how far a run has moved from the base model.

use models::{Adapter, Divergence, Model, ScoreRow};

use crate::config::{Retention, TrainConfig};
use crate::dataset::{Dataset, Row, RowSource};
use crate::metrics::BaseDivergence;
use crate::{Data, Result};

impl Data {
    /// With `nightshift.retention`, the data with the rows that it measures: replay rows of the validation
    /// split, or where that has none, a quarter of those of the training split at most, its last ones, which
    /// are then not trained. Otherwise, and if the data has such rows already, the data as it is.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) if neither split has a replay row to spare.
    pub fn with_retention(mut self, config: &TrainConfig) -> Result<Self> {
        let Some(Retention { rows, .. }) = config.nightshift.retention else { return Ok(self) };
        if self.retention.is_some() {
            return Ok(self);
        }
        let of_valid: Vec<Row> = self.valid.iter().flat_map(replay).take(rows).cloned().collect();
        self.retention = match of_valid.is_empty() {
            false => Some(Dataset::of_rows(of_valid)),
            true => self.train.split_off(|all| {
                let replay: Vec<usize> = replay(all).map(Row::number).collect();
                let count = rows.min(replay.len().div_ceil(4));
                replay[replay.len() - count..].to_vec()
            }),
        };
        match self.retention.is_some() && !self.train.rows().is_empty() {
            true => Ok(self),
            false => Err(config.without_replay()),
        }
    }
}

impl TrainConfig {
    /// The error for data without rows for `nightshift.retention`.
    pub(crate) fn without_replay(&self) -> crate::Error {
        let expected = "rows with `\"kind\": \"replay\"`, or no such key";
        self.invalid("nightshift.retention", expected, "no such row")
    }
}

fn replay(data: &Dataset) -> impl Iterator<Item = &Row> {
    data.rows().iter().filter(|row| row.source() == RowSource::Replay)
}

/// The mean of `KL(base || model)` over the trained tokens of `rows`.
pub(crate) fn from_base(
    model: &Model,
    adapter: &Adapter,
    rows: &Dataset,
) -> Result<BaseDivergence> {
    let rows: Vec<_> = rows.rows().iter().map(Row::scored).collect();
    let rows: Vec<ScoreRow<'_>> =
        rows.iter().map(|(tokens, scored)| ScoreRow { tokens, scored }).collect();
    let parts = models::divergence(model, &Adapter::none(model), adapter, &rows)?;
    let sum: Divergence = parts.into_iter().sum();
    Ok(BaseDivergence { mean: sum.mean_kl(), tokens: sum.tokens as u64 })
}
