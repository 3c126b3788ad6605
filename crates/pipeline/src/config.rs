use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Error, Result};

/// What a night does: one YAML file, mostly of paths to other files.
///
/// Relative paths are taken from the folder of the file.
///
/// ```yaml
/// model: ../models/gemma-4-31B-it-4bit
/// data: { raw: data/council.jsonl }
/// enrich: enrich.yaml
/// train: configs/lora-gemma4-31b.yaml
/// exam: { suite: suites/household.json }
/// gate: gate.yaml
/// budgets: { wall_clock: 6h }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NightConfig {
    /// Where everything goes; absent: `nightshift` in the user's data folder.
    #[serde(default)]
    pub home: Option<PathBuf>,
    /// The base model.
    pub model: ModelSource,
    /// The raw rows.
    pub data: DataSource,
    /// The enrichment recipe; absent: the crate's own.
    #[serde(default)]
    pub enrich: Option<PathBuf>,
    /// The training recipe: a YAML file as `mlx_lm.lora` reads it. Its `model`, `data` and
    /// `adapter_path` are replaced by the night's.
    pub train: PathBuf,
    /// The exam.
    pub exam: ExamConfig,
    /// The gate's policy; absent: the crate's own.
    #[serde(default)]
    pub gate: Option<PathBuf>,
    /// What a night may cost.
    #[serde(default)]
    pub budgets: Budgets,
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
    /// A JSONL file of chats, in any supported markup.
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
    /// How it is put.
    #[serde(default)]
    pub options: eval::ExamOptions,
}

/// What a night may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budgets {
    /// How long one start may work, as `6h` or `1h 30m`; when it is over, the stage at work stops
    /// in good order and the next start goes on from there. Default `6h`.
    pub wall_clock: Span,
}

impl Default for Budgets {
    fn default() -> Self {
        Self { wall_clock: Span(Duration::from_secs(6 * 3600)) }
    }
}

/// A length of time, written as `6h` or `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = jiff::SignedDuration::try_from(self.0).unwrap_or(jiff::SignedDuration::MAX);
        write!(f, "{span:#}")
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let refuse = || {
            let expected = "a length of time such as `6h` or `1h 30m`";
            de::Error::custom(format!("expected {expected}, found {text:?}"))
        };
        let span: jiff::SignedDuration = text.parse().map_err(|_| refuse())?;
        Duration::try_from(span).map(Span).map_err(|_| refuse())
    }
}

impl NightConfig {
    /// Reads a configuration file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::Config { path: path.to_path_buf(), reason: e.to_string() })?;
        Self::from_yaml(&text, path)
    }

    /// Reads configuration text; `path` is its file, for messages and for relative paths.
    ///
    /// ```
    /// use pipeline::NightConfig;
    ///
    /// let text = "
    /// model: demo
    /// data: { raw: chats.jsonl }
    /// train: lora.yaml
    /// exam: { suite: suite.json }
    /// ";
    /// let config = NightConfig::from_yaml(text, "conf/night.yaml")?;
    /// assert_eq!(config.train.to_str(), Some("conf/lora.yaml"));
    /// assert_eq!(config.budgets.wall_clock.to_string(), "6h");
    ///
    /// let refused = NightConfig::from_yaml("modell: demo", "night.yaml").unwrap_err();
    /// assert!(refused.to_string().starts_with("night.yaml:"), "{refused}");
    /// # Ok::<(), pipeline::Error>(())
    /// ```
    pub fn from_yaml(text: &str, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut config: Self = serde_saphyr::from_str(text)
            .map_err(|e| Error::Config { path: path.to_path_buf(), reason: first_line(&e) })?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// Makes relative paths relative to `folder`.
    fn resolve(&mut self, folder: &Path) {
        let at = |path: &mut PathBuf| *path = folder.join(&*path);
        at(&mut self.train);
        at(&mut self.exam.suite);
        [&mut self.home, &mut self.enrich, &mut self.gate].into_iter().flatten().for_each(at);
        if let ModelSource::Path(path) = &mut self.model {
            at(path);
        }
        match &mut self.data {
            DataSource::Raw(path) | DataSource::Household { facts: path, .. } => at(path),
        }
    }
}

/// The parser's message without the source excerpt that follows it.
fn first_line(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
