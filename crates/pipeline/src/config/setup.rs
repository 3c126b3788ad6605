//! The models that a night can train, and the choice among them.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DataSource, ModelSource};

/// A base model with its data and training recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelSetup {
    /// The base model.
    pub model: ModelSource,
    /// The raw rows.
    pub data: DataSource,
    /// The training recipe: a YAML file in the format of `mlx_lm.lora`. Its `model`, `data` and
    /// `adapter_path` are ignored.
    pub train: PathBuf,
    /// The recipe of a preference phase after it, in the same format with a preference loss as `train_mode`.
    /// Without it, no such phase.
    #[serde(default)]
    pub preference: Option<PathBuf>,
}

impl ModelSetup {
    /// A model with its data and training recipe.
    pub fn new(model: ModelSource, data: DataSource, train: impl Into<PathBuf>) -> Self {
        Self { model, data, train: train.into(), preference: None }
    }
}

/// Which model of a file a night trains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelChoice {
    /// The one named by the file's `model`.
    Default,
    /// Another one of `models`.
    Named {
        /// Its name in `models`.
        name: String,
        /// The variable or flag that names it, for messages.
        by: &'static str,
    },
}

impl ModelChoice {
    /// The environment variable that overrides a file's `model`.
    pub const VARIABLE: &'static str = "SANCTUM_TRAIN_MODEL";

    /// The choice of [`VARIABLE`](Self::VARIABLE); the default if it is unset or empty.
    pub fn from_env() -> Self {
        match std::env::var_os(Self::VARIABLE) {
            Some(name) if !name.is_empty() => {
                Self::Named { name: name.to_string_lossy().into_owned(), by: Self::VARIABLE }
            }
            _ => Self::Default,
        }
    }
}
