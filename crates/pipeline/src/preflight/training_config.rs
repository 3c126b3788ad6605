//! Training Config: the recipe, as `mlx_lm.lora` would read it.

use lora_train::{Schedule, TrainConfig};

use super::finding::Finding;
use super::scene::{Scene, Tried};
use crate::error::Error;

/// Learning rates above this have never ended well.
const HIGHEST_RATE: f64 = 0.1;
/// Strengths above this drown the model that they adapt.
const HIGHEST_SCALE: f64 = 64.0;

/// The key of a recipe that is YAML, with known keys, and has a value out of its range.
fn out_of_range(recipe: &Tried<TrainConfig>) -> Option<(&str, &Error)> {
    match recipe {
        Tried::Failed(error @ Error::Train(lora_train::Error::Setting { key, .. })) => {
            Some((key, error))
        }
        _ => None,
    }
}

/// The file is there, is YAML, and has no key that nobody knows.
pub(super) fn yaml_validity(scene: &Scene<'_>) -> Finding {
    match out_of_range(&scene.training) {
        Some(_) => Finding::passed("every key is known"),
        None => scene.training.judge(|_| {
            let name = scene.config.setup.train.file_name().unwrap_or_default();
            Finding::passed(name.to_string_lossy())
        }),
    }
}

/// Rank, strength and dropout are such as an adapter can have.
pub(super) fn lora_ranges(scene: &Scene<'_>) -> Finding {
    let is_ours = |key: &str| key.starts_with("lora_parameters") || key == "num_layers";
    match out_of_range(&scene.training) {
        Some((key, error)) if is_ours(key) => Finding::failed(error),
        Some(_) => Finding::skipped("needs a recipe that loads"),
        None => scene.training.needed("the recipe", |recipe| {
            let (rank, scale) = (recipe.lora_parameters.rank, recipe.scale());
            match scale.abs() <= HIGHEST_SCALE {
                true => Finding::passed(format!("rank {rank}, scale {scale}")),
                false => Finding::failed(format!(
                    "lora_parameters.scale: expected at most {HIGHEST_SCALE}, found {scale}"
                )),
            }
        }),
    }
}

/// The learning rate is one at every update.
pub(super) fn schedule_ranges(scene: &Scene<'_>) -> Finding {
    let is_ours = |key: &str| !key.starts_with("lora_parameters") && key != "num_layers";
    match out_of_range(&scene.training) {
        Some((key, error)) if is_ours(key) => Finding::failed(error),
        Some(_) => Finding::skipped("needs a recipe that loads"),
        None => scene.training.needed("the recipe", |recipe| {
            let rows = scene.enriched.done().map_or(1, |enriched| enriched.splits.train_rows);
            let updates = recipe.updates(rows);
            let schedule = match Schedule::new(recipe, updates) {
                Ok(schedule) => schedule,
                Err(error) => return Finding::failed(error),
            };
            let wrong = |update: u64| {
                let rate = schedule.at(update);
                let fine = rate.is_finite() && (0.0..=HIGHEST_RATE).contains(&rate);
                (!fine).then(|| {
                    format!(
                        "update {}: expected a rate of 0 to {HIGHEST_RATE}, found {rate:e}",
                        update + 1
                    )
                })
            };
            match (0..updates.min(1_000_000)).find_map(wrong) {
                Some(problem) => Finding::failed(problem),
                None => Finding::passed(format!(
                    "{updates} updates, {:.1e} at the highest",
                    schedule.peak()
                )),
            }
        }),
    }
}
