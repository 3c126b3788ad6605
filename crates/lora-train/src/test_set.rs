//! The loss of a finished adapter on the test split.

use chat_format::{ChatTokenizer, TrainingRow};
use models::{Adapter, Model, Score, ScoreRow};

use crate::config::{Batches, TrainConfig};
use crate::rows::{Columns, read_rows};
use crate::{Error, Result};

/// Checks the test split of a configuration with `test: true`, so that a file that cannot be scored is
/// refused before the training and not after it.
///
/// # Errors
/// As [`test_loss`].
pub fn check_test_set(config: &TrainConfig, tokenizer: &ChatTokenizer) -> Result<()> {
    if config.test { test_rows(config, tokenizer).map(drop) } else { Ok(()) }
}

/// The mean loss per token of the adapter in `adapter_path` on `test.jsonl`; `None` unless the
/// configuration has `test: true`. Rows are not cut to `max_seq_length`.
///
/// # Errors
/// If `test.jsonl` cannot be read, has no rows ([`Error::NoRows`]) or no trained token
/// ([`Error::NothingToTrain`]), or the adapter does not fit the model.
pub fn test_loss(
    model: &Model,
    config: &TrainConfig,
    tokenizer: &ChatTokenizer,
) -> Result<Option<f64>> {
    if !config.test {
        return Ok(None);
    }
    let rows = test_rows(config, tokenizer)?;
    let scored: Vec<ScoreRow<'_>> =
        rows.iter().map(|row| ScoreRow { tokens: &row.tokens, scored: &row.trained }).collect();
    let adapter = Adapter::load(&config.adapter_path, model)?;
    let total: Score = models::score(model, &adapter, &scored)?.into_iter().sum();
    Ok(Some(total.loss()))
}

/// The first rows of `test.jsonl`, `test_batches` of them.
fn test_rows(config: &TrainConfig, tokenizer: &ChatTokenizer) -> Result<Vec<TrainingRow>> {
    let path = config.data_folder()?.join("test.jsonl");
    let mut rows = read_rows(path, tokenizer, &Columns::from(config), config.supervision())?;
    if let Batches::AtMost(batches) = config.test_batches {
        rows.truncate(batches * config.batch_size);
    }
    // The first token is not scored: nothing predicts it.
    if rows.iter().all(|row| row.trained.iter().all(|range| range.end <= range.start.max(1))) {
        let (split, rows, max_length) = ("test".to_owned(), rows.len(), config.max_seq_length);
        return Err(Error::NothingToTrain { split, rows, max_length });
    }
    Ok(rows)
}
