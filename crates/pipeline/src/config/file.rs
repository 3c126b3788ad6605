//! The configuration file of a night.

use std::path::{Path, PathBuf};

use super::written::Written;
use super::{
    DataSource, Enrichment, ExamConfig, FreshExams, ModelChoice, ModelSetup, ModelSource,
    NightConfig, PathResolver, ReplayConfig,
};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::home::Home;
use crate::nights;

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
        written.check().map_err(|reason| Error::Config { path: path.clone(), reason })?;
        Ok(Self { path, written })
    }

    /// The JSON schema of the file, for editors and the reference.
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Written).to_value()
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

    /// The chosen setup with paths as written, and its name in `models` if it has one.
    pub(super) fn setup(&self, choice: &ModelChoice) -> Result<(ModelSetup, Option<String>)> {
        let of_file = |reason| Error::Config { path: self.path.clone(), reason };
        self.written.setup(choice).map_err(of_file)
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
            clock: Clock::default(),
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
        let failed = nights::failed_in_a_row(&Home::of(&config)?, config.clock.now().time_zone())?;
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
