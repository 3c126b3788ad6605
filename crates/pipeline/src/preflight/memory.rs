//! Whether the night's memory suffices for its exams.

use lora_train::TrainConfig;
use models::Model;

use crate::config::NightConfig;
use crate::error::Result;
use crate::exam_model::ExamModel;
use crate::memory_fallback::within;

/// The memory in bytes that MLX may use on the night with this recipe.
pub(super) fn limit(config: &NightConfig, recipe: &TrainConfig) -> Result<u64> {
    Ok(lora_train::memory::limit(&within(recipe, config.budgets.memory))?)
}

/// Whether the exams of the night fit, given the model with nothing in memory.
///
/// # Errors
/// With the least memory that they need, if they do not.
pub(super) fn check_exam(config: &NightConfig, recipe: &TrainConfig, model: &Model) -> Result<()> {
    ExamModel::check(model, config.exam.options.batch, limit(config, recipe)?)
}
