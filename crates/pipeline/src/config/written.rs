//! What a night's file says, as written, and whether its parts go together.

use std::collections::BTreeMap;
use std::path::PathBuf;

use enrich::GeneratorFiles;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{
    Budgets, DataSource, Enrichment, ExamConfig, ExamWeights, ForgettingConfig, FreshExams,
    ModelChoice, ModelSetup, ModelSource, Notify, PreflightConfig, ReplayConfig, Retention,
    ScrubKinds, ServingConfig, WhenUnchanged,
};

/// The content of the file. Its methods return what is wrong with it: the key, what was expected and what was found.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    /// The folder with everything of the installation. Default: `nightshift` in your data folder.
    pub home: Option<PathBuf>,
    /// A model folder, a `.gguf` file, `demo` (SmolLM2-135M-Instruct, fetched once), or a name in `models`.
    pub model: PathBuf,
    /// The name in `models` that is used after three failed nights in a row.
    pub fallback_model: Option<String>,
    /// Several models, each with its data and recipes; `model` names the one that is trained. `SANCTUM_TRAIN_MODEL` chooses
    /// another for one night.
    #[serde(default)]
    pub models: BTreeMap<String, ModelSetup>,
    /// The rows; of a file without `models`.
    data: Option<DataSource>,
    /// The training recipe, in the format of `mlx_lm.lora`; of a file without `models`. Its `model`, `data` and `adapter_path`
    /// are ignored.
    train: Option<PathBuf>,
    /// The recipe of a preference phase after it; of a file without `models`. Without it, no such phase.
    preference: Option<PathBuf>,
    /// The largest share of raw rows that may be set aside because they cannot be read, 0 to 1. Default 0.02.
    #[serde(default, deserialize_with = "refused_share")]
    pub max_refused_share: Option<f64>,
    /// The kinds of personal data that are replaced by placeholders before anything else sees the rows. Default `none`.
    pub scrub: Option<ScrubKinds>,
    /// Whether a raw row that is the beginning of a longer one is merged into it. Default true.
    pub merge_logs: Option<bool>,
    /// What is added to the rows: `none`, `seed`, `balanced`, or the path of a recipe. Default: the rows decide.
    pub enrich: Option<Enrichment>,
    /// The household's own files, each in place of a shipped one.
    #[serde(default)]
    pub household: GeneratorFiles,
    /// The base model's own answers among the training rows. Without the key, none.
    pub replay: Option<ReplayConfig>,
    /// The exam.
    pub exam: ExamConfig,
    /// How forgetting is measured. Without the key, it is not.
    pub forgetting: Option<ForgettingConfig>,
    /// The file of the gate's policy. Default: built in.
    pub gate: Option<PathBuf>,
    /// Limits of time, memory and disk.
    pub budgets: Option<Budgets>,
    /// What a night does if nothing has changed since an earlier one. Default `skip`.
    pub when_unchanged: Option<WhenUnchanged>,
    /// What is kept of earlier nights.
    pub retention: Option<Retention>,
    /// What happens when another champion should serve.
    pub serving: Option<ServingConfig>,
    /// What a preflight expects and accepts.
    pub preflight: Option<PreflightConfig>,
    /// Where notifications go, and what is in them.
    pub notify: Option<Notify>,
}

/// A share from 0 to 1, if the file has one.
fn refused_share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    match Option::deserialize(deserializer)? {
        Some(share) if !(0.0..=1.0).contains(&share) => {
            let expected = "max_refused_share: expected a share from 0 to 1";
            Err(de::Error::custom(format!("{expected}, found {share}")))
        }
        share => Ok(share),
    }
}

impl Written {
    /// Checks values, and that the parts go together.
    pub fn check(&self) -> Result<(), String> {
        let problems = [
            self.replay.as_ref().and_then(ReplayConfig::problem),
            self.budgets.as_ref().and_then(Budgets::problem),
            self.forgetting.as_ref().and_then(ForgettingConfig::problem),
            self.preflight.as_ref().and_then(PreflightConfig::problem),
            self.serving.as_ref().and_then(ServingConfig::problem),
            self.notify.as_ref().and_then(Notify::problem),
            self.fallback_problem(),
            self.models_problem(),
            self.exam.fresh.as_ref().and_then(FreshExams::problem),
            self.chats_problem(),
            self.drift_problem(),
        ];
        match problems.into_iter().flatten().next() {
            Some(problem) => Err(problem),
            None => self.setup(&ModelChoice::Default).map(drop),
        }
    }

    fn fallback_problem(&self) -> Option<String> {
        let name = self.fallback_model.as_ref().filter(|name| !self.models.contains_key(*name))?;
        let names = if self.models.is_empty() { "none".to_owned() } else { self.names() };
        Some(format!("fallback_model: expected a name in `models` ({names}), found {name:?}"))
    }

    /// There is either one model at the top or a table `models`, not a mixture.
    fn models_problem(&self) -> Option<String> {
        let Self { models, data, train, preference, .. } = self;
        let of_entry = |key: &str| Some(format!("{key}: belongs to an entry of `models`"));
        let is_empty = |data: &DataSource| data.raw().is_some_and(|it| it.iter().next().is_none());
        match (models.is_empty(), data, train) {
            (true, None, _) => Some("missing field `data`".to_owned()),
            (true, _, None) => Some("missing field `train`".to_owned()),
            (false, Some(_), _) => of_entry("data"),
            (false, _, Some(_)) => of_entry("train"),
            (false, ..) if preference.is_some() => of_entry("preference"),
            (true, Some(data), _) if is_empty(data) => {
                Some("data.raw: expected at least one path, found an empty list".to_owned())
            }
            _ => None,
        }
    }

    /// No chats may be deleted before they are rows.
    fn chats_problem(&self) -> Option<String> {
        let kept = self.retention.and_then(|retention| retention.chats)?;
        let setups = self.models.values().map(|setup| &setup.data);
        let used = setups.chain(&self.data).filter_map(DataSource::chats).max()?;
        (kept < used).then(|| {
            format!(
                "retention.chats: expected at least {used}, the days of `data.chats`; found {kept}"
            )
        })
    }

    /// A server tells no probabilities.
    fn drift_problem(&self) -> Option<String> {
        let by_server = self.serving.as_ref().is_some_and(|it| it.exam == ExamWeights::Server);
        let prompts = self.forgetting.as_ref().filter(|_| by_server)?.prompts;
        (prompts > 0).then(|| {
            format!("forgetting.prompts: expected 0 beside `serving.exam: server`, found {prompts}")
        })
    }

    /// The names in `models`, for messages.
    fn names(&self) -> String {
        self.models.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// The chosen setup with paths as written, and its name in `models` if it has one.
    pub fn setup(&self, choice: &ModelChoice) -> Result<(ModelSetup, Option<String>), String> {
        let Self { models, model, data, train, preference, .. } = self;
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
        if let Some(setup) = models.get(&name) {
            return Ok((setup.clone(), Some(name)));
        }
        let expected = match models.is_empty() {
            true => "no choice, as the file has no `models`".to_owned(),
            false => format!("one of `models`: {}", self.names()),
        };
        Err(format!("{by}: expected {expected}; found {name:?}"))
    }
}
