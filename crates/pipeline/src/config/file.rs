//! The configuration file of a night.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use enrich::GeneratorFiles;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{
    Budgets, DataSource, Enrichment, ExamConfig, ForgettingConfig, FreshExams, ModelSource,
    NightConfig, Notify, PathResolver, PreflightConfig, ReplayConfig, Retention, ScrubKinds,
    ServingConfig, WhenUnchanged,
};
use crate::error::{Error, Result};
use crate::home::Home;
use crate::nights;

/// A base model with its data and training recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// The recipe of a preference phase after it, in the same format with a preference loss as `train_mode`;
    /// `None` for no such phase.
    #[serde(default)]
    pub preference: Option<PathBuf>,
}

impl ModelSetup {
    /// A model with its data and training recipe.
    pub fn new(model: ModelSource, data: DataSource, train: impl Into<PathBuf>) -> Self {
        Self { model, data, train: train.into(), preference: None }
    }
}

/// The configuration file of a night, in YAML. Relative paths are resolved from its folder; `~/` is the user's home.
///
/// ```yaml
/// model: gemma4
/// fallback_model: qwen
/// models:
///   gemma4:
///     model: models/gemma-4-31B-it-4bit
///     data: { raw: data/splits-gemma4 }
///     train: configs/lora-gemma4-31b.yaml
///     preference: configs/prefer.yaml
///   qwen:
///     model: models/Qwen3.5-27B-Claude-Opus-Distilled-v2-4bit
///     data: { raw: data/splits-carmack }
///     train: configs/lora-carmack-overnight.yaml
/// scrub: [email, phone]
/// enrich: seed
/// household: { council: council.yaml, personas: personas.yaml, routing: routing.yaml }
/// replay: { share: 0.25, persona: mixed }
/// exam: { suite: suites/household.json }
/// budgets: { wall_clock: 6h, memory: 60GB, disk: 10GB }
/// when_unchanged: skip
/// retention: { adapters: 14 }
/// serving: { on_change: [/usr/local/bin/restart-server], endpoint: "http://127.0.0.1:8080/v1" }
/// preflight: { peak_memory: 60GB, allow: { rows_unseen: "half of the rows a night are enough" } }
/// notify: { desktop: true, webhook: "${NIGHT_WEBHOOK}", format: ntfy }
/// ```
///
/// A file for one model has `model`, `data`, `train` and perhaps `preference` at the top instead of `models`.
#[derive(Debug, Clone, PartialEq)]
pub struct NightFile {
    path: PathBuf,
    pub(super) written: Written,
}

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub home: Option<PathBuf>,
    model: PathBuf,
    fallback_model: Option<String>,
    #[serde(default)]
    models: BTreeMap<String, ModelSetup>,
    data: Option<DataSource>,
    train: Option<PathBuf>,
    preference: Option<PathBuf>,
    #[serde(default, deserialize_with = "refused_share")]
    pub max_refused_share: Option<f64>,
    pub scrub: Option<ScrubKinds>,
    pub merge_logs: Option<bool>,
    pub enrich: Option<Enrichment>,
    #[serde(default)]
    pub household: GeneratorFiles,
    pub replay: Option<ReplayConfig>,
    exam: ExamConfig,
    pub forgetting: Option<ForgettingConfig>,
    pub gate: Option<PathBuf>,
    pub budgets: Option<Budgets>,
    pub when_unchanged: Option<WhenUnchanged>,
    pub retention: Option<Retention>,
    pub serving: Option<ServingConfig>,
    pub preflight: Option<PreflightConfig>,
    pub notify: Option<Notify>,
}

/// A share from 0 to 1, if the file has one.
fn refused_share<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<f64>, D::Error> {
    match Option::deserialize(deserializer)? {
        Some(share) if !(0.0..=1.0).contains(&share) => {
            let expected = "max_refused_share: expected a share from 0 to 1";
            Err(de::Error::custom(format!("{expected}, found {share}")))
        }
        share => Ok(share),
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

impl NightFile {
    /// The number of failed nights in a row after which `fallback_model` is used.
    pub const FAILED_NIGHTS: usize = nights::FAILED_NIGHTS;

    /// Reads a configuration file.
    ///
    /// # Errors
    /// Line, key, what was expected and what was found.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::Config { path: path.to_path_buf(), reason: e.to_string() })?;
        Self::from_yaml(&text, path)
    }

    /// Parses the text of a configuration file. `path` is used for messages and relative paths.
    ///
    /// ```
    /// use pipeline::config::{ModelChoice, NightFile};
    ///
    /// let text = "
    /// model: demo
    /// data: { raw: chats.jsonl }
    /// train: lora.yaml
    /// exam: { suite: suite.json }
    /// ";
    /// let config = NightFile::from_yaml(text, "conf/night.yaml")?.choose(&ModelChoice::Default)?;
    /// assert_eq!(config.setup.train.to_str(), Some("conf/lora.yaml"));
    /// assert_eq!(config.budgets.wall_clock.to_string(), "6h");
    ///
    /// let refused = NightFile::from_yaml("modell: demo", "night.yaml").unwrap_err();
    /// assert!(refused.to_string().starts_with("night.yaml:"), "{refused}");
    /// # Ok::<(), pipeline::Error>(())
    /// ```
    pub fn from_yaml(text: &str, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let written: Written = enrich::yaml::parse(&path, text)?;
        let file = Self { path, written };
        file.check()?;
        Ok(file)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's `model`: a name in `models`, or the path of a model.
    pub fn default_model(&self) -> String {
        self.written.model.to_string_lossy().into_owned()
    }

    /// The names in `models`, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.written.models.keys().map(String::as_str)
    }

    /// The configuration of a night with the chosen model.
    ///
    /// # Errors
    /// A name that is not in `models`, with a list of those that are.
    pub fn choose(&self, choice: &ModelChoice) -> Result<NightConfig> {
        let paths = PathResolver { file: &self.path };
        let at = |key: &str, path: &Path| paths.resolve(key, path);
        let written = &self.written;
        let (setup, _) = self.setup(choice)?;
        let model = match setup.model {
            ModelSource::Path(path) => ModelSource::Path(at("model", &path)?),
            ModelSource::Demo => ModelSource::Demo,
        };
        let data = match setup.data {
            DataSource::Raw(raw) => DataSource::Raw(raw.resolved(|path| at("data.raw", path))?),
            DataSource::Household { facts, rows, seed } => {
                DataSource::Household { facts: at("data.household.facts", &facts)?, rows, seed }
            }
            DataSource::Chats(days) => DataSource::Chats(days),
            DataSource::RawAndChats { raw, chats } => {
                DataSource::RawAndChats { raw: raw.resolved(|path| at("data.raw", path))?, chats }
            }
        };
        let enrich = match &written.enrich {
            Some(Enrichment::File(path)) => Some(Enrichment::File(at("enrich", path)?)),
            other => other.clone(),
        };
        let exam = &written.exam;
        let optional = |key: &str, path: &Option<PathBuf>| {
            path.as_deref().map(|path| at(key, path)).transpose()
        };
        let replay = match &written.replay {
            None => None,
            Some(replay) => Some(ReplayConfig {
                prompts: optional("replay.prompts", &replay.prompts)?,
                ..replay.clone()
            }),
        };
        let fresh = match &exam.fresh {
            None => None,
            Some(fresh) => Some(FreshExams {
                facts: optional("exam.fresh.facts", &fresh.facts)?,
                sealed: optional("exam.fresh.sealed", &fresh.sealed)?,
                ..fresh.clone()
            }),
        };
        Ok(NightConfig {
            home: optional("home", &written.home)?,
            note: None,
            setup: ModelSetup {
                model,
                data,
                train: at("train", &setup.train)?,
                preference: optional("preference", &setup.preference)?,
            },
            max_refused_share: written.max_refused_share.unwrap_or(super::MAX_REFUSED_SHARE),
            scrub: written.scrub.clone().unwrap_or_default(),
            merge_logs: written.merge_logs.unwrap_or(true),
            enrich,
            household: written.household.clone().resolved(|path| at("household", path))?,
            exam: ExamConfig { suite: at("exam.suite", &exam.suite)?, fresh, ..exam.clone() },
            gate: optional("gate", &written.gate)?,
            replay,
            forgetting: written.forgetting.clone(),
            budgets: written.budgets.unwrap_or_default(),
            when_unchanged: written.when_unchanged.unwrap_or_default(),
            retention: written.retention.unwrap_or_default(),
            serving: written.serving.clone().unwrap_or_default(),
            preflight: written.preflight.clone().unwrap_or_default(),
            notify: written.notify.clone().unwrap_or_default(),
        })
    }

    /// The configuration of tonight's night in `home`, or in that of the file: with `fallback_model` after
    /// [`FAILED_NIGHTS`](Self::FAILED_NIGHTS) failed nights in a row, unless another model is chosen by name. The summary of the
    /// night says so.
    ///
    /// # Errors
    /// As [`choose`](Self::choose), and a home that cannot be read.
    pub fn choose_tonight(
        &self,
        choice: &ModelChoice,
        home: Option<PathBuf>,
    ) -> Result<NightConfig> {
        let mut config = self.choose(choice)?;
        config.home = home.or(config.home);
        let Some(name) = self.written.fallback_model.as_ref() else { return Ok(config) };
        if *choice != ModelChoice::Default {
            return Ok(config);
        }
        let failed = nights::failed_in_a_row(&Home::of(&config)?, &TimeZone::system())?;
        if failed < Self::FAILED_NIGHTS {
            return Ok(config);
        }
        let choice = ModelChoice::Named { name: name.clone(), by: "fallback_model" };
        let note = format!(
            "{failed} nights in a row failed with {}: this one uses {name} (fallback_model)",
            self.default_model()
        );
        Ok(NightConfig { home: config.home, note: Some(note), ..self.choose(&choice)? })
    }

    /// Checks that there is either one model at the top or a table `models`, not a mixture.
    fn check(&self) -> Result<()> {
        let Written { models, data, train, preference, .. } = &self.written;
        let error = |reason: &str| {
            Err(Error::Config { path: self.path.clone(), reason: reason.to_owned() })
        };
        let problem = self.written.replay.as_ref().and_then(ReplayConfig::problem);
        let forgetting = self.written.forgetting.as_ref();
        let problem = problem.or_else(|| self.written.budgets.as_ref().and_then(Budgets::problem));
        let problem = problem.or_else(|| forgetting.and_then(ForgettingConfig::problem));
        let preflight = self.written.preflight.as_ref();
        let problem = problem.or_else(|| preflight.and_then(PreflightConfig::problem));
        let notify = self.written.notify.as_ref();
        if let Some(problem) = problem.or_else(|| notify.and_then(Notify::problem)) {
            return error(&problem);
        }
        if let Some(name) = &self.written.fallback_model
            && !models.contains_key(name)
        {
            let names: Vec<_> = self.names().collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return error(&format!(
                "fallback_model: expected a name in `models` ({names}), found {name:?}"
            ));
        }
        match (models.is_empty(), data, train) {
            (true, None, _) => error("missing field `data`"),
            (true, _, None) => error("missing field `train`"),
            (false, Some(_), _) => error("data: belongs to an entry of `models`"),
            (false, _, Some(_)) => error("train: belongs to an entry of `models`"),
            (false, ..) if preference.is_some() => {
                error("preference: belongs to an entry of `models`")
            }
            (true, Some(data), _) if data.raw().is_some_and(|raw| raw.iter().next().is_none()) => {
                error("data.raw: expected at least one path, found an empty list")
            }
            _ if self.written.exam.fresh.as_ref().is_some_and(|fresh| fresh.cases == Some(0)) => {
                error("exam.fresh.cases: expected at least 1, found 0")
            }
            _ if self.written.exam.fresh.as_ref().is_some_and(FreshExams::is_contradictory) => {
                error(
                    "exam.fresh: expected either `sealed` (suites that exist) or `facts` and `cases` (exams that are \
                     generated), found both",
                )
            }
            _ => {
                self.check_chats()?;
                self.setup(&ModelChoice::Default).map(drop)
            }
        }
    }

    /// Checks that no chats are deleted before they are rows.
    fn check_chats(&self) -> Result<()> {
        let kept = self.written.retention.and_then(|retention| retention.chats);
        let setups = self.written.models.values().map(|setup| &setup.data);
        let used = setups.chain(&self.written.data).filter_map(DataSource::chats).max();
        match (kept, used) {
            (Some(kept), Some(used)) if kept < used => {
                let reason = format!(
                    "retention.chats: expected at least {used}, the days of `data.chats`; found {kept}"
                );
                Err(Error::Config { path: self.path.clone(), reason })
            }
            _ => Ok(()),
        }
    }

    /// The chosen setup with paths as written, and its name in `models` if it has one.
    pub(super) fn setup(&self, choice: &ModelChoice) -> Result<(ModelSetup, Option<String>)> {
        let Written { models, model, data, train, preference, .. } = &self.written;
        if let (Some(data), Some(train)) = (data, train)
            && *choice == ModelChoice::Default
        {
            let model = ModelSource::from(model.clone());
            let (data, train, preference) = (data.clone(), train.clone(), preference.clone());
            return Ok((ModelSetup { model, data, train, preference }, None));
        }
        let (name, by) = match choice {
            ModelChoice::Default => (model.to_string_lossy().into_owned(), "model"),
            ModelChoice::Named { name, by } => (name.clone(), *by),
        };
        match models.get(&name) {
            Some(setup) => Ok((setup.clone(), Some(name))),
            None => {
                let names: Vec<_> = self.names().collect();
                let expected = match names.is_empty() {
                    true => "no choice, as the file has no `models`".to_owned(),
                    false => format!("one of `models`: {}", names.join(", ")),
                };
                let reason = format!("{by}: expected {expected}; found {name:?}");
                Err(Error::Config { path: self.path.clone(), reason })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "
model: gemma4
models:
  gemma4: { model: models/gemma, data: { raw: data/splits-gemma4 }, train: lora-gemma.yaml }
  qwen: { model: models/qwen, data: { raw: data/splits-carmack }, train: lora-qwen.yaml }
exam: { suite: suite.json }
";

    fn named(name: &str) -> ModelChoice {
        ModelChoice::Named { name: name.to_owned(), by: ModelChoice::VARIABLE }
    }

    #[test]
    fn the_default_can_be_overridden_by_name() {
        let file = NightFile::from_yaml(TWO, "conf/night.yaml").unwrap();
        for (choice, model, train) in [
            (ModelChoice::Default, "conf/models/gemma", "conf/lora-gemma.yaml"),
            (named("gemma4"), "conf/models/gemma", "conf/lora-gemma.yaml"),
            (named("qwen"), "conf/models/qwen", "conf/lora-qwen.yaml"),
        ] {
            let setup = file.choose(&choice).unwrap().setup;
            assert_eq!(setup.model, ModelSource::Path(model.into()));
            assert_eq!(setup.train, Path::new(train));
        }
    }

    #[test]
    fn errors_name_the_key_and_what_was_expected() {
        let one = "model: demo\ndata: { raw: r }\ntrain: t\nexam: { suite: s }\n";
        let file = |text: &str| NightFile::from_yaml(text, "night.yaml");
        let refused = |result: Result<NightConfig>| result.unwrap_err().to_string();
        for (message, expected) in [
            (
                refused(file(TWO).unwrap().choose(&named("gemini"))),
                "night.yaml: SANCTUM_TRAIN_MODEL: expected one of `models`: gemma4, qwen; found \"gemini\"",
            ),
            (
                refused(file(one).unwrap().choose(&named("qwen"))),
                "night.yaml: SANCTUM_TRAIN_MODEL: expected no choice, as the file has no `models`; \
                 found \"qwen\"",
            ),
            (
                file(&TWO.replace("model: gemma4", "model: gemma5")).unwrap_err().to_string(),
                "night.yaml: model: expected one of `models`: gemma4, qwen; found \"gemma5\"",
            ),
            (
                file(&format!("{TWO}train: t\n")).unwrap_err().to_string(),
                "night.yaml: train: belongs to an entry of `models`",
            ),
            (
                file(&format!("{TWO}preference: p\n")).unwrap_err().to_string(),
                "night.yaml: preference: belongs to an entry of `models`",
            ),
            (
                file(&one.replace("train: t\n", "")).unwrap_err().to_string(),
                "night.yaml: missing field `train`",
            ),
        ] {
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn a_share_is_from_0_to_1() {
        let file = |share: &str| {
            NightFile::from_yaml(&format!("{TWO}max_refused_share: {share}\n"), "night.yaml")
        };
        for (share, expected) in [("0", 0.0), ("0.5", 0.5), ("1", 1.0)] {
            let config = file(share).unwrap().choose(&ModelChoice::Default).unwrap();
            assert_eq!(config.max_refused_share, expected);
        }
        for (share, found) in [("2", "2"), ("-1", "-1"), (".nan", "NaN"), (".inf", "inf")] {
            let expected = format!(
                "night.yaml:7:20: max_refused_share: expected a share from 0 to 1, found {found}"
            );
            assert_eq!(file(share).unwrap_err().to_string(), expected);
        }
    }
}
