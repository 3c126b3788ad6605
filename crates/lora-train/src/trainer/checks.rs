//! Whether the data of a run are what its configuration is about.

use crate::config::{AnchoredTokens, TrainConfig, TrainMode};
use crate::dataset::{DataKind, RowSource};
use crate::{Data, Dataset, Result};

/// Checks that the examples of a split are what the loss of the run is about.
pub(super) fn check_kind(config: &TrainConfig, split: &Dataset) -> Result<()> {
    let expected = match (config.mode(), split.kind()) {
        (TrainMode::Sft, DataKind::Rows) => return Ok(()),
        (TrainMode::Sft, DataKind::Pairs) => "a preference loss such as dpo, for pairs",
        (_, DataKind::Pairs) => return Ok(()),
        (_, DataKind::Rows) => "sft, for rows without a chosen and a rejected answer",
    };
    Err(config.invalid("train_mode", expected, config.mode()))
}

/// Checks that there are rows to measure the distance from the base model with.
pub(super) fn check_retention(config: &TrainConfig, data: &Data) -> Result<()> {
    match config.nightshift.retention.is_some() && data.retention.is_none() {
        true => Err(config.without_replay()),
        false => Ok(()),
    }
}

/// Checks that there are tokens to hold to the base model.
pub(super) fn check_replay(config: &TrainConfig, train: &Dataset) -> Result<()> {
    let on = config.nightshift.kl.map(|kl| kl.on);
    let replay = train.rows().iter().any(|row| row.source() == RowSource::Replay);
    if on != Some(AnchoredTokens::Replay) || replay {
        return Ok(());
    }
    let expected = "all or untrained, or rows with `\"kind\": \"replay\"` in the training data";
    Err(config.invalid("nightshift.kl.on", expected, "replay and no such row"))
}
