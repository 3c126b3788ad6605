//! Training Config: the training recipe.

use lora_train::{Schedule, TrainConfig};

use crate::error::Error;
use crate::preflight::attempt::Attempt;
use crate::preflight::finding::Finding;
use crate::preflight::rehearsal::Rehearsal;

/// Largest plausible learning rate.
const MAX_RATE: f64 = 0.1;
/// Largest plausible LoRA scale.
const MAX_SCALE: f64 = 64.0;

/// The key and error of a recipe that parses but has a value out of range.
fn out_of_range(recipe: &Attempt<TrainConfig>) -> Option<(&str, &Error)> {
    match recipe {
        Attempt::Failed(error @ Error::Train(lora_train::Error::Setting { key, .. })) => {
            Some((key, error))
        }
        _ => None,
    }
}

/// The file exists, is YAML, and has no unknown key.
pub(super) fn yaml_validity(rehearsal: &Rehearsal<'_>) -> Finding {
    match out_of_range(&rehearsal.recipe) {
        Some(_) => Finding::passed("every key is known"),
        None => rehearsal.recipe.judge(|_| {
            let name = rehearsal.config.setup.train.file_name().unwrap_or_default();
            Finding::passed(name.to_string_lossy())
        }),
    }
}

/// Rank, scale and dropout are in range.
pub(super) fn lora_ranges(rehearsal: &Rehearsal<'_>) -> Finding {
    let is_ours = |key: &str| key.starts_with("lora_parameters") || key == "num_layers";
    match out_of_range(&rehearsal.recipe) {
        Some((key, error)) if is_ours(key) => Finding::failed(error),
        Some(_) => Finding::not_run("needs a recipe that loads"),
        None => rehearsal.recipe.needed("the recipe", |recipe| {
            let (rank, scale) = (recipe.lora_parameters.rank, recipe.scale());
            match scale.abs() <= MAX_SCALE {
                true => Finding::passed(format!("rank {rank}, scale {scale}")),
                false => Finding::failed(format!(
                    "lora_parameters.scale: expected at most {MAX_SCALE}, found {scale}"
                )),
            }
        }),
    }
}

/// The learning rate is in range at every update.
pub(super) fn schedule_ranges(rehearsal: &Rehearsal<'_>) -> Finding {
    let is_ours = |key: &str| !key.starts_with("lora_parameters") && key != "num_layers";
    match out_of_range(&rehearsal.recipe) {
        Some((key, error)) if is_ours(key) => Finding::failed(error),
        Some(_) => Finding::not_run("needs a recipe that loads"),
        None => rehearsal.recipe.needed("the recipe", |recipe| {
            let rows = rehearsal.enriched.done().map_or(1, |enriched| enriched.splits.train_rows);
            let updates = recipe.updates(rows);
            let schedule = match Schedule::new(recipe, updates) {
                Ok(schedule) => schedule,
                Err(error) => return Finding::failed(error),
            };
            let wrong = |update: u64| {
                let rate = schedule.at(update);
                let fine = rate.is_finite() && (0.0..=MAX_RATE).contains(&rate);
                (!fine).then(|| {
                    format!(
                        "update {}: expected a rate of 0 to {MAX_RATE}, found {rate:e}",
                        update + 1
                    )
                })
            };
            match (0..updates.min(1_000_000)).find_map(wrong) {
                Some(problem) => Finding::failed(problem),
                None => Finding::passed(format!(
                    "{updates} updates, {:.1e} at the peak",
                    schedule.peak()
                )),
            }
        }),
    }
}
