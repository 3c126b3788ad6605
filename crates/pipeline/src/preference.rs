//! The recipe of the preference phase: a training configuration with a preference loss, for the adapter that the
//! supervised training has made.

use std::path::Path;

use lora_train::TrainConfig;
use lora_train::config::{AnchoredTokens, TrainMode};

use crate::config::NightConfig;
use crate::error::{Error, Result};
use crate::stages::StageName;

/// The recipes of a night's trainings.
#[derive(Debug)]
pub(crate) struct Recipes {
    pub supervised: TrainConfig,
    /// That of the preference phase, if there is one.
    pub preference: Option<TrainConfig>,
}

impl Recipes {
    /// Reads the files that a configuration names.
    ///
    /// # Errors
    /// A file that cannot be read or is invalid, with its line; a preference loss in `train`, none in `preference`, or
    /// another adapter there.
    pub fn load(config: &NightConfig) -> Result<Self> {
        let supervised = supervised(&config.setup.train)?;
        let preference = config.setup.preference.as_deref();
        let preference = preference.map(|path| preference_of(path, &supervised)).transpose()?;
        Ok(Self { supervised, preference })
    }

    /// Trains with the seeds after these, `by` steps on.
    pub fn advance_seed(&mut self, by: u64) {
        for recipe in [Some(&mut self.supervised), self.preference.as_mut()].into_iter().flatten() {
            recipe.seed = recipe.seed.wrapping_add(by);
        }
    }

    /// The stages that train, with their recipes.
    pub fn stages(&self) -> impl Iterator<Item = (StageName, &TrainConfig)> {
        let preference = self.preference.as_ref().map(|recipe| (StageName::Prefer, recipe));
        [(StageName::Train, &self.supervised)].into_iter().chain(preference)
    }
}

/// Reads a recipe of a night. Rows, exam and smoke test render templates with the date on which the night began.
fn load(path: &Path) -> Result<TrainConfig> {
    let recipe = TrainConfig::load(path)?;
    match recipe.nightshift.date {
        None => Ok(recipe),
        Some(date) => {
            let expected = "no such key, because a night uses the date on which it began";
            Err(refused(&recipe, "nightshift.date", expected, &date.to_string()))
        }
    }
}

/// Reads the recipe of the supervised training.
pub(crate) fn supervised(path: &Path) -> Result<TrainConfig> {
    let recipe = load(path)?;
    let expected = "sft or no such key, because a night first trains rows; a preference loss belongs into a file of \
                    its own, which the key `preference` of the night's file names";
    match recipe.mode() {
        TrainMode::Sft => Ok(recipe),
        mode => Err(refused(&recipe, "train_mode", expected, &mode.to_string())),
    }
}

/// Reads the recipe of the preference phase after a training by `supervised`.
pub(crate) fn preference_of(path: &Path, supervised: &TrainConfig) -> Result<TrainConfig> {
    let recipe = load(path)?;
    let settings = &recipe.nightshift;
    if recipe.mode() == TrainMode::Sft {
        let expected = "a preference loss such as dpo, because `preference` of the night's file names this file";
        return Err(refused(&recipe, "train_mode", expected, "sft"));
    }
    if recipe.resume_adapter_file.is_some() {
        let expected = "no such key, because the phase starts from the adapter of `train`";
        return Err(refused(&recipe, "resume_adapter_file", expected, "one"));
    }
    if settings.kl.is_some_and(|kl| kl.on == AnchoredTokens::Replay) {
        let expected = "all or untrained, because no pair is a replay row";
        return Err(refused(&recipe, "nightshift.kl.on", expected, "replay"));
    }
    if settings.retention.is_none() {
        let expected =
            "`nightshift.retention` beside it, because the phase has no validation pairs";
        for (key, given) in [
            ("nightshift.early_stop", settings.early_stop.is_some()),
            ("nightshift.eval_best", settings.eval_best),
        ] {
            if given {
                return Err(refused(&recipe, key, expected, "none"));
            }
        }
    }
    of_same_adapter(recipe, supervised)
}

/// The recipe for the adapter of `supervised`: what it does not say about the adapter, and the memory limit, are taken
/// from there.
fn of_same_adapter(mut recipe: TrainConfig, supervised: &TrainConfig) -> Result<TrainConfig> {
    let origin = recipe.origin.clone();
    let has = |keys: &[&str]| keys.iter().any(|key| origin.has(key));
    let theirs = supervised.clone();
    let (lora, settings) = (&mut recipe.lora_parameters, &mut recipe.nightshift);
    if !has(&["fine_tune_type", "train_type"]) {
        recipe.fine_tune_type = theirs.fine_tune_type;
    }
    if !has(&["lora_parameters.rank"]) {
        lora.rank = theirs.lora_parameters.rank;
    }
    if !has(&["lora_parameters.scale", "lora_parameters.alpha", "nightshift.scaling"]) {
        (lora.scale, lora.alpha) = (Some(supervised.scale()), None);
    }
    if !has(&["lora_parameters.dropout"]) {
        lora.dropout = theirs.lora_parameters.dropout;
    }
    if !has(&["lora_parameters.keys"]) {
        lora.keys = theirs.lora_parameters.keys;
    }
    if !has(&["num_layers", "nightshift.layers"]) {
        recipe.num_layers = theirs.num_layers;
        settings.layers = theirs.nightshift.layers;
    }
    if !has(&["nightshift.rank_pattern"]) {
        settings.rank_pattern = theirs.nightshift.rank_pattern;
    }
    settings.memory_limit = settings.memory_limit.or(theirs.nightshift.memory_limit);
    match difference(&recipe, supervised) {
        None => Ok(recipe),
        Some((key, expected, found)) => {
            let expected = format!("{expected} as in `train`, whose adapter is trained further");
            Err(refused(&recipe, key, &expected, &found))
        }
    }
}

/// The first key by which two recipes train different adapters, with the second's and the first's value.
fn difference(
    recipe: &TrainConfig,
    supervised: &TrainConfig,
) -> Option<(&'static str, String, String)> {
    type Of = fn(&TrainConfig) -> serde_json::Value;
    let json = |of: Of, recipe: &TrainConfig| of(recipe).to_string();
    let keys: [(&str, Of); 7] = [
        ("fine_tune_type", |it| serde_json::json!(it.fine_tune_type)),
        ("lora_parameters.rank", |it| it.lora_parameters.rank.into()),
        ("lora_parameters.scale", |it| it.scale().into()),
        ("lora_parameters.keys", |it| serde_json::json!(it.lora_parameters.keys)),
        ("num_layers", |it| serde_json::json!(it.num_layers)),
        ("nightshift.layers", |it| serde_json::json!(it.nightshift.layers)),
        ("nightshift.rank_pattern", |it| serde_json::json!(it.nightshift.rank_pattern)),
    ];
    keys.into_iter().find_map(|(key, of)| {
        let (expected, found) = (json(of, supervised), json(of, recipe));
        (expected != found).then_some((key, expected, found))
    })
}

fn refused(recipe: &TrainConfig, key: &str, expected: &str, found: &str) -> Error {
    Error::Train(lora_train::Error::Setting {
        location: recipe.origin.location(key),
        key: key.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAIN: &str = "
lora_parameters: { rank: 16, alpha: 32, dropout: 0.1, keys: [self_attn.q_proj] }
nightshift: { layers: [0, 1], memory_limit: 4GB }
";

    fn read(train: &str, preference: &str) -> Result<TrainConfig> {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let supervised = supervised(&write("lora.yaml", train))?;
        preference_of(&write("prefer.yaml", preference), &supervised)
    }

    #[test]
    fn what_is_not_said_about_the_adapter_is_that_of_the_supervised_training() {
        let supervised = TrainConfig::from_yaml(TRAIN, "lora.yaml").unwrap();
        for preference in [
            "train_mode: dpo",
            "train_mode: orpo\nlora_parameters: { rank: 16, scale: 2.0 }",
            "train_mode: kto\nlora_parameters: { alpha: 32 }\nnightshift: { layers: [0, 1] }",
        ] {
            let recipe = read(TRAIN, preference).unwrap();
            assert_eq!(recipe.scale(), supervised.scale(), "{preference}");
            let (own, theirs) = (&recipe.lora_parameters, &supervised.lora_parameters);
            assert_eq!((own.rank, &own.keys, own.dropout), (16, &theirs.keys, 0.1));
            assert_eq!(recipe.nightshift.layers, supervised.nightshift.layers);
            assert_eq!(recipe.nightshift.memory_limit, supervised.nightshift.memory_limit);
        }
        let own =
            "train_mode: dpo\nlora_parameters: { dropout: 0.0 }\nnightshift: { memory_limit: 2GB }";
        let own = read(TRAIN, own).unwrap();
        assert_eq!(own.lora_parameters.dropout, 0.0, "dropout may differ");
        assert_eq!(own.nightshift.memory_limit.unwrap().0, 2_000_000_000);
    }

    #[test]
    fn refusals_name_file_line_and_key() {
        for (train, preference, expected) in [
            (TRAIN, "seed: 1", "prefer.yaml: `train_mode`: expected a preference loss such as dpo"),
            (
                "seed: 1\ntrain_mode: kto",
                "train_mode: kto",
                "lora.yaml:2: `train_mode`: expected sft or no such key",
            ),
            (TRAIN, "train_mode: dpo\nresume_adapter_file: a", "prefer.yaml:2: `resume_adapter"),
            (
                TRAIN,
                "train_mode: dpo\nlora_parameters:\n  rank: 8",
                "prefer.yaml:3: `lora_parameters.rank`: expected 16 as in `train`",
            ),
            (
                TRAIN,
                "train_mode: dpo\nlora_parameters:\n  scale: 8",
                "prefer.yaml:3: `lora_parameters.scale`: expected 2.0 as in `train`",
            ),
            (TRAIN, "train_mode: dpo\nnum_layers: 2", "`num_layers`: expected null as in `train`"),
            (
                TRAIN,
                "train_mode: dpo\nnightshift:\n  early_stop: { patience: 1 }",
                "prefer.yaml:3: `nightshift.early_stop`: expected `nightshift.retention`",
            ),
            (
                TRAIN,
                "train_mode: dpo\nnightshift:\n  kl: { weight: 1, on: replay }",
                "prefer.yaml:3: `nightshift.kl.on`: expected all or untrained",
            ),
        ] {
            let error = read(train, preference).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.exit_code(), 2, "{error}");
        }
    }
}
