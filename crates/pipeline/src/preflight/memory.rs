//! Whether the night's memory suffices for its exams.

use chat_format::ChatTokenizer;
use eval::Council;
use lora_train::TrainConfig;
use models::Model;

use crate::config::NightConfig;
use crate::drift::DriftPlan;
use crate::error::Result;
use crate::exam_model::{ExamModel, ExamWork};
use crate::memory_fallback::within;

/// The memory in bytes that MLX may use on the night with this recipe.
pub(super) fn limit(config: &NightConfig, recipe: &TrainConfig) -> Result<u64> {
    Ok(lora_train::memory::limit(&within(recipe, config.budgets.memory))?)
}

/// Whether the exams of the night and its comparison with the base fit, given the model with nothing in memory and its
/// tokenizer.
///
/// # Errors
/// With the least memory that they need, if they do not.
pub(super) fn check_exam(
    config: &NightConfig,
    recipe: &TrainConfig,
    council: &Council,
    (model, tokenizer): (&Model, &ChatTokenizer),
) -> Result<()> {
    let drift = DriftPlan::load(config.forgetting.as_ref())?;
    let longest = drift.map(|plan| plan.longest(tokenizer, council)).transpose()?;
    let work = ExamWork { rows: config.exam.options.batch, compared: longest.unwrap_or_default() };
    ExamModel::check(model, work, limit(config, recipe)?)
}
