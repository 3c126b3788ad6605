//! The configuration of a night.

mod budgets;
mod file;
mod retention;
mod settings;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use budgets::{Budgets, Span};
pub use file::{ModelChoice, ModelSetup, NightFile};
pub use retention::Retention;
pub use settings::{Origin, Setting};

use crate::error::Result;
use crate::notify::Notify;

/// The default of [`NightConfig::max_refused_share`].
const MAX_REFUSED_SHARE: f64 = 0.02;

/// The configuration of one night. [`NightFile`] reads it from a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NightConfig {
    /// The home; `None` for `nightshift` in the user's data folder.
    pub home: Option<PathBuf>,
    /// Model, data and training recipe.
    #[serde(flatten)]
    pub setup: ModelSetup,
    /// The largest share of raw rows that may be set aside because they cannot be read, 0 to 1.
    pub max_refused_share: f64,
    /// The enrichment recipe; `None` for the defaults of the `enrich` crate.
    pub enrich: Option<PathBuf>,
    /// The exam.
    pub exam: ExamConfig,
    /// The rules of the gate; `None` for the defaults of the `eval` crate.
    pub gate: Option<PathBuf>,
    /// Limits of time, memory and disk.
    pub budgets: Budgets,
    /// What is kept of earlier nights.
    pub retention: Retention,
    /// Where notifications go.
    pub notify: Notify,
}

impl NightConfig {
    /// A night with defaults for everything else: the user's home, the default recipes, budgets and
    /// retention, no notifications.
    pub fn new(setup: ModelSetup, exam: ExamConfig) -> Self {
        Self {
            home: None,
            setup,
            max_refused_share: MAX_REFUSED_SHARE,
            enrich: None,
            exam,
            gate: None,
            budgets: Budgets::default(),
            retention: Retention::default(),
            notify: Notify::default(),
        }
    }

    /// Reads a configuration file and chooses its default model.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) with line and key.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        NightFile::load(path)?.choose(&ModelChoice::Default)
    }
}

/// Where the base model comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "PathBuf", into = "PathBuf")]
pub enum ModelSource {
    /// `demo`: SmolLM2-135M-Instruct, fetched once.
    Demo,
    /// A folder in Hugging Face layout or a `.gguf` file.
    Path(PathBuf),
}

impl From<PathBuf> for ModelSource {
    fn from(path: PathBuf) -> Self {
        if path.as_os_str() == "demo" { Self::Demo } else { Self::Path(path) }
    }
}

impl From<ModelSource> for PathBuf {
    fn from(source: ModelSource) -> Self {
        match source {
            ModelSource::Demo => "demo".into(),
            ModelSource::Path(path) => path,
        }
    }
}

/// Where the raw rows come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DataSource {
    /// A file of chats in any supported format, or a folder with a `train.jsonl`.
    Raw(PathBuf),
    /// Rows generated from a household's facts.
    Household {
        /// The facts file.
        facts: PathBuf,
        /// Number of rows.
        rows: usize,
        /// Seed of the generator.
        #[serde(default)]
        seed: u64,
    },
}

/// The exam of a night.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ExamConfig {
    /// The suite file.
    pub suite: PathBuf,
    /// Use only the cases with this tag; `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Sampling, seeds and batch size.
    #[serde(default)]
    pub options: eval::ExamOptions,
}

impl ExamConfig {
    /// An exam with all cases of a suite and default options.
    pub fn new(suite: impl Into<PathBuf>) -> Self {
        Self { suite: suite.into(), tag: None, options: eval::ExamOptions::default() }
    }
}
