mod budgets;
mod file;
mod retention;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use budgets::{Budgets, Span};
pub use file::{Choice, NightFile, Origin, Setting, Setup};

pub use retention::Retention;

use crate::error::Result;
use crate::notify::Notify;

/// What one night does. [`NightFile`] is the file it comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NightConfig {
    /// Where everything goes; absent: `nightshift` in the user's data folder.
    pub home: Option<PathBuf>,
    /// What is trained, how and on what.
    #[serde(flatten)]
    pub setup: Setup,
    /// The enrichment recipe; absent: the crate's own.
    pub enrich: Option<PathBuf>,
    /// The exam.
    pub exam: ExamConfig,
    /// The gate's policy; absent: the crate's own.
    pub gate: Option<PathBuf>,
    /// What a night may cost.
    pub budgets: Budgets,
    /// What is kept of nights gone by.
    pub retention: Retention,
    /// Whom to tell.
    pub notify: Notify,
}

impl NightConfig {
    /// Reads a configuration file and takes the model that it names.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        NightFile::load(path)?.choose(&Choice::Default)
    }
}

/// The base model of a night.
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
    /// A file of chats in any supported markup, or a folder with one called `train.jsonl`.
    Raw(PathBuf),
    /// Rows made from a household's facts.
    Household {
        /// The facts file.
        facts: PathBuf,
        /// How many rows.
        rows: usize,
        /// The same seed gives the same rows.
        #[serde(default)]
        seed: u64,
    },
}

/// The exam of a night.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExamConfig {
    /// The suite file.
    pub suite: PathBuf,
    /// Only the cases with this tag; absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// How it is put.
    #[serde(default)]
    pub options: eval::ExamOptions,
}
