//! The configuration of a run: mlx-lm's YAML as it is, plus our own keys under `nightshift`.

mod check;
mod lora;
mod nightshift;
mod optimizer;
mod schedule;
mod values;
mod yaml;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use lora::{LoraParameters, Scaling};
pub use nightshift::{EarlyStop, Nightshift, OnBadLoss, StateStorage};
pub use optimizer::{Adafactor, Adam, AdamW, Lion, Muon, OptimizerConfigs, OptimizerName, Sgd};
pub use schedule::{LrSchedule, ScheduleName, ScheduleUnit};
pub use values::{Batches, Bytes, NumLayers};
pub use yaml::{Origin, Place};

use crate::{Error, Result};

/// A training run.
///
/// The keys, their meaning and their defaults are those of `mlx_lm.lora`; a file written for it
/// is read as it is. Two differences: a key nobody knows is an error here, and what mlx-lm takes
/// silently is spelled out by [`lint`](crate::lint::lint).
///
/// ```
/// use lora_train::{NumLayers, TrainConfig};
///
/// let config = TrainConfig::from_yaml("
/// lora_parameters: { rank: 16, scale: 2.0 }
/// num_layers: -1
/// learning_rate: 1e-5
/// ", "night.yaml")?;
/// assert_eq!(config.num_layers, Some(NumLayers::All));
/// assert_eq!(config.batch_size, 4, "mlx-lm's default");
///
/// let refused = TrainConfig::from_yaml("lerning_rate: 1e-5", "night.yaml").unwrap_err();
/// assert_eq!(
///     refused.to_string(),
///     "night.yaml:1: unknown key `lerning_rate`; did you mean `learning_rate`?",
/// );
/// # Ok::<(), lora_train::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// The model: a folder in Hugging Face layout or a `.gguf` file.
    pub model: Option<PathBuf>,
    /// A folder with `train.jsonl` and, if there are any, `valid.jsonl` and `test.jsonl`.
    pub data: Option<PathBuf>,
    /// Where the adapter, its checkpoints and the metrics go.
    pub adapter_path: PathBuf,
    /// Start from these adapter weights (and nothing else of the run that made them).
    pub resume_adapter_file: Option<PathBuf>,

    /// Which weights are trained, and how.
    pub fine_tune_type: FineTuneType,
    /// Rank, strength and place of the adapter.
    pub lora_parameters: LoraParameters,
    /// How many decoder layers are adapted, counted from the last; absent: the last 16, as in
    /// mlx-lm, or all of a model that has fewer.
    pub num_layers: Option<NumLayers>,

    /// Train on the answers only, not on the prompts.
    pub mask_prompt: bool,
    /// Rows are cut after this many tokens.
    pub max_seq_length: usize,
    /// Rows of one iteration.
    pub batch_size: usize,
    /// Iterations of one optimizer update.
    pub grad_accumulation_steps: usize,
    /// Iterations of `batch_size` rows each.
    pub iters: u64,
    /// Seed of everything that is drawn: the adapter, the order of rows, dropout.
    pub seed: u64,

    /// The optimizer.
    pub optimizer: OptimizerName,
    /// Constants of the optimizers.
    pub optimizer_config: OptimizerConfigs,
    /// The learning rate; not read when there is an `lr_schedule`.
    pub learning_rate: f64,
    /// How the learning rate moves from update to update.
    pub lr_schedule: Option<LrSchedule>,

    /// Iterations from report to report.
    pub steps_per_report: u64,
    /// Iterations from validation to validation.
    pub steps_per_eval: u64,
    /// Batches of a validation.
    pub val_batches: Batches,
    /// Measure the loss on `test.jsonl` after training.
    pub test: bool,
    /// Batches of that test.
    pub test_batches: Batches,
    /// Iterations from checkpoint to checkpoint.
    pub save_every: u64,

    /// The column of a prompt, in rows that are no conversations.
    pub prompt_feature: Option<String>,
    /// The column of a completion.
    pub completion_feature: Option<String>,
    /// The column of a conversation.
    pub chat_feature: Option<String>,
    /// The column of a plain text.
    pub text_feature: Option<String>,

    /// Read for mlx-lm's sake: whether its command trains. Ours always does.
    pub train: bool,
    /// Read for mlx-lm's sake: layers are always recomputed or kept as memory allows.
    pub grad_checkpoint: bool,
    /// Read for mlx-lm's sake: the allocator's cache is bounded by `nightshift.memory_limit`.
    pub clear_cache_threshold: Bytes,
    /// Read for mlx-lm's sake: `metrics.jsonl` is the report.
    pub report_to: Option<String>,
    /// Read for mlx-lm's sake: a name for `report_to`.
    pub project_name: Option<String>,
    /// Read for mlx-lm's sake: no code is ever loaded from a model folder.
    pub trust_remote_code: bool,
    /// Read for mlx-lm's sake: the path of the file itself, which its dumps contain.
    pub config: Option<PathBuf>,
    /// Read so that it can be refused with a reason: data sets are local files here.
    pub hf_dataset: Option<serde_json::Value>,

    /// Our own settings.
    pub nightshift: Nightshift,

    /// The file the settings came from and the line of each key, for messages.
    #[serde(skip)]
    pub origin: Origin,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            model: None,
            data: None,
            adapter_path: "adapters".into(),
            resume_adapter_file: None,
            fine_tune_type: FineTuneType::Lora,
            lora_parameters: LoraParameters::default(),
            num_layers: None,
            mask_prompt: false,
            max_seq_length: 2048,
            batch_size: 4,
            grad_accumulation_steps: 1,
            iters: 1000,
            seed: 0,
            optimizer: OptimizerName::Adam,
            optimizer_config: OptimizerConfigs::default(),
            learning_rate: 1e-5,
            lr_schedule: None,
            steps_per_report: 10,
            steps_per_eval: 200,
            val_batches: Batches::AtMost(25),
            test: false,
            test_batches: Batches::AtMost(500),
            save_every: 100,
            prompt_feature: None,
            completion_feature: None,
            chat_feature: None,
            text_feature: None,
            train: false,
            grad_checkpoint: false,
            clear_cache_threshold: Bytes(0),
            report_to: None,
            project_name: None,
            trust_remote_code: false,
            config: None,
            hf_dataset: None,
            nightshift: Nightshift::default(),
            origin: Origin::default(),
        }
    }
}

/// The `fine_tune_type` key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FineTuneType {
    /// A low-rank adapter beside frozen weights.
    #[default]
    Lora,
    /// A low-rank adapter whose rows have a trained length.
    Dora,
    /// The weights themselves.
    Full,
}

impl TrainConfig {
    /// Reads and checks a YAML file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::from_yaml(&text, path)
    }

    /// Reads and checks YAML text; `file` is its name in messages.
    pub fn from_yaml(text: &str, file: impl Into<PathBuf>) -> Result<Self> {
        let (mut config, origin): (Self, _) = yaml::parse(text, file.into())?;
        config.origin = origin;
        config.validate()?;
        Ok(config)
    }

    /// Where the model is.
    pub fn model_path(&self) -> Result<&Path> {
        let found = self.model.as_deref();
        found.ok_or_else(|| self.invalid("model", "a model folder or a .gguf file", "nothing"))
    }

    /// Where the rows are.
    pub fn data_folder(&self) -> Result<&Path> {
        let found = self.data.as_deref();
        found.ok_or_else(|| self.invalid("data", "a folder with train.jsonl", "nothing"))
    }

    /// Iterations of the run over `rows` training rows: `iters`, or what `nightshift.epochs` asks.
    pub fn iterations(&self, rows: usize) -> u64 {
        match self.nightshift.epochs {
            Some(epochs) => (epochs * rows as f64 / self.batch_size as f64).ceil() as u64,
            None => self.iters,
        }
    }

    /// Optimizer updates of the run; a last group that is not full is an update too.
    pub fn updates(&self, rows: usize) -> u64 {
        self.iterations(rows).div_ceil(self.grad_accumulation_steps as u64)
    }

    /// The strength the adapter is trained at.
    pub fn scale(&self) -> f64 {
        self.lora_parameters.strength(self.nightshift.scaling)
    }

    /// The indices of the adapted layers in a model of `model_layers`, lowest first.
    pub fn adapted_layers(&self, model_layers: usize) -> Result<Vec<usize>> {
        if let Some(listed) = &self.nightshift.layers {
            if let Some(beyond) = listed.iter().find(|&&layer| layer >= model_layers) {
                let expected = format!("layers below {model_layers}, which is what the model has");
                return Err(self.invalid("nightshift.layers", expected, beyond));
            }
            let mut layers = listed.clone();
            layers.sort_unstable();
            return Ok(layers);
        }
        let count = match self.num_layers {
            None => NumLayers::DEFAULT.min(model_layers),
            Some(NumLayers::All) => model_layers,
            Some(NumLayers::Last(count)) if count > model_layers => {
                let expected = format!("at most the {model_layers} layers of the model");
                return Err(self.invalid("num_layers", expected, count));
            }
            Some(NumLayers::Last(count)) => count,
        };
        Ok((model_layers - count..model_layers).collect())
    }

    /// The contents of `adapter_config.json`: every setting, so that the run can be told from its
    /// adapter, with the strength and the number of layers that mlx-lm's loader needs spelled out.
    pub fn adapter_config(&self, model_layers: usize) -> Result<serde_json::Value> {
        let lowest = self.adapted_layers(model_layers)?.first().copied().unwrap_or(model_layers);
        let mut resolved = self.clone();
        resolved.num_layers = Some(NumLayers::Last(model_layers - lowest));
        resolved.lora_parameters.scale = Some(self.scale());
        serde_json::to_value(resolved).map_err(Error::Json)
    }

    /// The error of a key that holds something else than it should.
    pub(crate) fn invalid(
        &self,
        key: &str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Error {
        Error::Setting {
            place: self.origin.place(key),
            key: key.to_owned(),
            expected: expected.into(),
            found: found.to_string(),
        }
    }
}
