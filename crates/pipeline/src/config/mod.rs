//! The configuration of a night.

mod budgets;
mod data;
mod file;
mod forgetting;
mod notify;
mod paths;
mod preflight;
mod replay;
mod retention;
mod secret;
mod serving;
mod settings;
mod setup;
mod unchanged;
mod written;

use std::path::{Path, PathBuf};

use enrich::GeneratorFiles;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use budgets::{Budgets, Span, TimeOfDay};
pub use data::{DataSource, Days, Enrichment, RawPaths, ScrubKinds};
pub use file::NightFile;
pub use forgetting::ForgettingConfig;
pub use notify::{Notify, WebhookFormat};
pub(crate) use paths::PathResolver;
pub use preflight::PreflightConfig;
pub use replay::ReplayConfig;
pub use retention::Retention;
pub use secret::Secret;
pub use serving::{ExamWeights, ServingConfig};
pub use settings::{Origin, Setting};
pub use setup::{ModelChoice, ModelSetup};
pub use unchanged::WhenUnchanged;

use crate::clock::Clock;
use crate::error::Result;

/// The default of [`NightConfig::max_refused_share`].
const MAX_REFUSED_SHARE: f64 = 0.02;

/// The configuration of one night. [`NightFile`] reads it from a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NightConfig {
    /// The home; `None` for `nightshift` in the user's data folder.
    pub home: Option<PathBuf>,
    /// What the summary says about the choice of the model, such as that it is the fallback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Model, data and training recipe.
    #[serde(flatten)]
    pub setup: ModelSetup,
    /// The largest share of raw rows that may be set aside because they cannot be read, 0 to 1.
    pub max_refused_share: f64,
    /// The kinds of personal data that are replaced by placeholders before anything else sees the rows.
    pub scrub: ScrubKinds,
    /// Whether a raw row that is the beginning of a longer one is merged into it, as logs hold them that grow with every
    /// turn. Rows that are used as they are (`enrich: none`, enriched splits) or by the seed's recipe are never merged.
    pub merge_logs: bool,
    /// What is added to the rows; `None` to decide by the rows (see [`Enrichment`]).
    pub enrich: Option<Enrichment>,
    /// The household's own files, each in place of a shipped one.
    pub household: GeneratorFiles,
    /// The base model's own answers among the training rows; `None` for no such rows.
    pub replay: Option<ReplayConfig>,
    /// The exam.
    pub exam: ExamConfig,
    /// How forgetting is measured; `None` for not at all.
    pub forgetting: Option<ForgettingConfig>,
    /// The rules of the gate; `None` for the defaults of the `eval` crate.
    pub gate: Option<PathBuf>,
    /// Limits of time, memory and disk.
    pub budgets: Budgets,
    /// What a night does if nothing has changed since an earlier one.
    pub when_unchanged: WhenUnchanged,
    /// What is kept of earlier nights.
    pub retention: Retention,
    /// What happens when another champion should serve.
    pub serving: ServingConfig,
    /// What a preflight expects and accepts.
    pub preflight: PreflightConfig,
    /// Where notifications go, and what is in them.
    pub notify: Notify,
    /// The time by which the night decides: the machine's, but in tests.
    #[serde(skip)]
    pub clock: Clock,
}

impl NightConfig {
    /// A night with defaults for everything else: the user's home, the default recipes, budgets and
    /// retention, no notifications.
    pub fn new(setup: ModelSetup, exam: ExamConfig) -> Self {
        Self {
            home: None,
            note: None,
            setup,
            max_refused_share: MAX_REFUSED_SHARE,
            scrub: ScrubKinds::default(),
            merge_logs: true,
            enrich: None,
            household: GeneratorFiles::default(),
            replay: None,
            exam,
            forgetting: None,
            gate: None,
            budgets: Budgets::default(),
            when_unchanged: WhenUnchanged::default(),
            retention: Retention::default(),
            serving: ServingConfig::default(),
            preflight: PreflightConfig::default(),
            notify: Notify::default(),
            clock: Clock::default(),
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// The exam of a night.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ExamConfig {
    /// The suite file.
    pub suite: PathBuf,
    /// Use only the cases with this tag. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Sampling, seeds and batch size.
    #[serde(default)]
    pub options: eval::ExamOptions,
    /// The source of fresh exams. Default: the household that the rows are generated from; other data has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fresh: Option<FreshExams>,
}

impl FreshExams {
    /// What is wrong with a value, if anything: the key, and what was expected and found.
    fn problem(&self) -> Option<String> {
        if self.cases == Some(0) {
            return Some("exam.fresh.cases: expected at least 1, found 0".to_owned());
        }
        let both = self.sealed.is_some() && (self.facts.is_some() || self.cases.is_some());
        let expected = "exam.fresh: expected either `sealed` (suites that exist) or `facts` and `cases` (exams that are \
                        generated), found both";
        both.then(|| expected.to_owned())
    }
}

/// Where fresh exams come from: each is taken on one night only, by a candidate that passes the standing exam.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FreshExams {
    /// The facts file of a household, from which an exam is generated by a seed that is drawn on the night.
    pub facts: Option<PathBuf>,
    /// The number of cases of a generated exam. Default: three times the standing exam's, which finds a gain of 0.08
    /// within two nights; a smaller exam finds only larger gains.
    pub cases: Option<usize>,
    /// A folder of suites, `*.json`, that nobody has seen. Each is used once, in the order of their names.
    pub sealed: Option<PathBuf>,
}

impl ExamConfig {
    /// An exam with all cases of a suite and default options.
    pub fn new(suite: impl Into<PathBuf>) -> Self {
        Self { suite: suite.into(), tag: None, options: eval::ExamOptions::default(), fresh: None }
    }
}
