//! The configuration of a run: the YAML of `mlx_lm.lora`, with further keys under `nightshift`.

mod check;
mod location;
mod lora;
mod nightshift;
mod optimizer;
mod preference;
mod result;
mod schedule;
mod values;
mod yaml;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use location::{Location, Origin};
pub use lora::{LoraParameters, Scaling};
pub use nightshift::{
    AnchoredTokens, EarlyStop, Kl, Nightshift, OnBadLoss, Retention, StateStorage,
};
pub use optimizer::{Adafactor, Adam, AdamW, Lion, Muon, OptimizerConfigs, OptimizerName, Sgd};
pub use preference::{LossName, LossNames, Reference, TrainMode};
pub use result::remove_without_effect;
pub(crate) use result::{determining, shared_by_ranks};
pub use schedule::{LrSchedule, ScheduleName, ScheduleUnit};
pub use values::{Batches, Bytes, NumLayers};

use crate::{Error, Result};

/// The configuration of a training run.
///
/// Keys, meaning and defaults are those of `mlx_lm.lora`, and so are its files. Two differences:
/// unknown keys are an error, and [`lint`](crate::lint::lint) reports defaults and settings that are
/// likely not intended.
///
/// Outside this crate, read one from YAML, or change the fields of a
/// [`TrainConfig::default`](Default::default) and call [`validate`](Self::validate).
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TrainConfig {
    /// The model: a folder in Hugging Face format or a `.gguf` file.
    pub model: Option<PathBuf>,
    /// A folder with `train.jsonl` and optionally `valid.jsonl` and `test.jsonl`.
    pub data: Option<PathBuf>,
    /// The folder for the adapter, its checkpoints and the metrics.
    pub adapter_path: PathBuf,
    /// A file of adapter weights to start from, without optimizer state or position in the data.
    pub resume_adapter_file: Option<PathBuf>,

    /// LoRA or DoRA; `train_type` in mlx-lm-lora.
    #[serde(alias = "train_type")]
    pub fine_tune_type: FineTuneType,
    /// Rank, scale and targets of the adapter.
    pub lora_parameters: LoraParameters,
    /// The number of adapted decoder layers, counted from the last. Absent: 16 as in mlx-lm, or all
    /// of a model that has fewer.
    pub num_layers: Option<NumLayers>,

    /// Whether only assistant turns have a loss.
    pub mask_prompt: bool,
    /// Rows are cut after this many tokens.
    pub max_seq_length: usize,
    /// Rows, or pairs of answers, of an iteration.
    pub batch_size: usize,
    /// Iterations of an optimizer update; `gradient_accumulation_steps` in mlx-lm-lora and TRL.
    #[serde(alias = "gradient_accumulation_steps")]
    pub grad_accumulation_steps: usize,
    /// Iterations of the run.
    pub iters: u64,
    /// Seed of all random values: initial adapter, order of rows, dropout.
    pub seed: u64,

    /// The optimizer.
    pub optimizer: OptimizerName,
    /// Hyperparameters of the optimizers.
    pub optimizer_config: OptimizerConfigs,
    /// The learning rate without an `lr_schedule`.
    pub learning_rate: f64,
    /// The learning rate as a function of the update.
    pub lr_schedule: Option<LrSchedule>,

    /// Without effect: every update is in `metrics.jsonl`.
    pub steps_per_report: u64,
    /// Iterations between validations.
    pub steps_per_eval: u64,
    /// Batches of a validation.
    pub val_batches: Batches,
    /// Whether to measure the loss on `test.jsonl` after training.
    pub test: bool,
    /// Batches of that measurement.
    pub test_batches: Batches,
    /// Iterations between checkpoints.
    pub save_every: u64,

    /// Supervised rows or pairs of answers, and the loss of pairs: absent, `sft`.
    pub train_mode: Option<TrainMode>,
    /// The scale of a preference loss: absent, 0.1.
    pub beta: Option<f64>,
    /// The loss of `dpo`, `cpo` or `kto` under TRL's name, or several for `dpo`: absent, `sigmoid` or `kto`.
    pub loss_type: Option<LossNames>,
    /// The same under mlx-lm-lora's name.
    pub dpo_cpo_loss_type: Option<LossName>,
    /// The weights of several losses: absent, 1 each.
    pub loss_weights: Option<Vec<f64>>,
    /// The share of flipped labels that the losses `robust`, and `sigmoid` and `simpo` of `cpo`, allow
    /// for: absent, 0.
    pub label_smoothing: Option<f64>,
    /// The weight of the penalty of `dpop`: absent, 50.
    pub delta: Option<f64>,
    /// The weight of the chosen answers' negative log-likelihood in `cpo` (absent, 1) and `simpo`
    /// (absent, 0).
    pub cpo_alpha: Option<f64>,
    /// The margin of SimPO: absent, 0.5.
    pub simpo_gamma: Option<f64>,
    /// The weight of chosen answers in `kto`: absent, 1.
    pub desirable_weight: Option<f64>,
    /// The weight of rejected answers in `kto`: absent, 1.
    pub undesirable_weight: Option<f64>,
    /// The reference model of `dpo` and `kto`; only the value of `model` is supported, and means `nightshift.reference:
    /// base`.
    pub reference_model_path: Option<PathBuf>,
    /// Without effect: the reference's log-probabilities are always computed once.
    pub precompute_ref_log_probs: Option<bool>,
    /// Without effect, as in mlx-lm-lora.
    pub reward_scaling: Option<f64>,

    /// The field of a prompt. Default `prompt`.
    pub prompt_feature: Option<String>,
    /// The field of a completion. Default `completion`.
    pub completion_feature: Option<String>,
    /// The field of a conversation. Default `messages`.
    pub chat_feature: Option<String>,
    /// The field of plain text. Default `text`.
    pub text_feature: Option<String>,

    /// Without effect; `mlx_lm.lora` trains only if it is set.
    pub train: bool,
    /// Without effect: layers are recomputed or kept as memory allows.
    pub grad_checkpoint: bool,
    /// Without effect: `nightshift.memory_limit` bounds the allocator's cache too.
    pub clear_cache_threshold: Bytes,
    /// Without effect: metrics go to `metrics.jsonl`.
    pub report_to: Option<String>,
    /// Without effect.
    pub project_name: Option<String>,
    /// Without effect: no code is loaded from a model folder.
    pub trust_remote_code: bool,
    /// Without effect: the path of the configuration, which mlx-lm adds when it writes one.
    pub config: Option<PathBuf>,
    /// Refused: data sets are local files.
    pub hf_dataset: Option<serde_json::Value>,

    /// Settings that mlx-lm does not have.
    pub nightshift: Nightshift,

    /// The file of the configuration and the line of each key, for messages.
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
            train_mode: None,
            beta: None,
            loss_type: None,
            dpo_cpo_loss_type: None,
            loss_weights: None,
            label_smoothing: None,
            delta: None,
            cpo_alpha: None,
            simpo_gamma: None,
            desirable_weight: None,
            undesirable_weight: None,
            reference_model_path: None,
            precompute_ref_log_probs: None,
            reward_scaling: None,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FineTuneType {
    /// Low-rank updates of frozen weights (LoRA, arXiv:2106.09685).
    #[default]
    Lora,
    /// LoRA with a trained norm of each row of the updated weights (DoRA, arXiv:2402.09353).
    Dora,
    /// Full fine-tuning; read, but not supported.
    Full,
}

impl TrainConfig {
    /// Reads and validates a YAML file.
    ///
    /// # Errors
    /// [`Error::Read`]; [`Error::Yaml`], [`Error::UnknownKey`] or [`Error::Setting`] with the line.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::from_yaml(&text, path)
    }

    /// Reads and validates YAML text. `file` is its name in messages.
    ///
    /// # Errors
    /// [`Error::Yaml`], [`Error::UnknownKey`] or [`Error::Setting`] with the line.
    pub fn from_yaml(text: &str, file: impl Into<PathBuf>) -> Result<Self> {
        let (mut config, origin): (Self, _) = yaml::parse(text, file.into())?;
        config.origin = origin;
        config.validate()?;
        Ok(config)
    }

    /// The JSON schema of the YAML file, for editors and the reference.
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }

    /// The value of `model`.
    ///
    /// # Errors
    /// [`Error::Setting`] if it is absent.
    pub fn model_path(&self) -> Result<&Path> {
        let found = self.model.as_deref();
        found.ok_or_else(|| self.invalid("model", "a model folder or a .gguf file", "nothing"))
    }

    /// The value of `data`.
    ///
    /// # Errors
    /// [`Error::Setting`] if it is absent.
    pub fn data_folder(&self) -> Result<&Path> {
        let found = self.data.as_deref();
        found.ok_or_else(|| self.invalid("data", "a folder with train.jsonl", "nothing"))
    }

    /// Iterations of a run with `rows` training rows or pairs: `iters`, or those of `nightshift.epochs`.
    pub fn iterations(&self, rows: usize) -> u64 {
        match self.nightshift.epochs {
            Some(epochs) => (epochs * rows as f64 / self.batch_size as f64).ceil() as u64,
            None => self.iters,
        }
    }

    /// Training rows or pairs that a run with `rows` of them takes; one of several epochs counts in each.
    pub(crate) fn examples(&self, rows: usize) -> u64 {
        match self.nightshift.epochs {
            Some(epochs) => (epochs * rows as f64).ceil() as u64,
            None => self.iters * self.batch_size as u64,
        }
    }

    /// Optimizer updates of a run with `rows` training rows or pairs. The last one may have fewer iterations.
    pub fn updates(&self, rows: usize) -> u64 {
        self.iterations(rows).div_ceil(self.grad_accumulation_steps as u64)
    }

    /// The factor that the adapter is trained and applied with.
    pub fn scale(&self) -> f64 {
        self.lora_parameters.effective_scale(self.nightshift.scaling)
    }

    /// The indices of the adapted layers in a model with `model_layers` layers, lowest first.
    ///
    /// # Errors
    /// [`Error::Setting`] if the configuration asks for more layers than there are.
    pub fn adapted_layers(&self, model_layers: usize) -> Result<Vec<usize>> {
        if let Some(listed) = &self.nightshift.layers {
            if let Some(missing) = listed.iter().find(|&&layer| layer >= model_layers) {
                let expected = format!("layers below {model_layers}, the model's number of layers");
                return Err(self.invalid("nightshift.layers", expected, missing));
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

    /// The contents of `adapter_config.json`: all settings of the run, with scale and number of
    /// layers resolved, because mlx-lm's loader requires them.
    ///
    /// # Errors
    /// As for [`adapted_layers`](Self::adapted_layers).
    pub fn adapter_config(&self, model_layers: usize) -> Result<serde_json::Value> {
        let lowest = self.adapted_layers(model_layers)?.first().copied().unwrap_or(model_layers);
        let mut resolved = self.clone();
        resolved.num_layers = Some(NumLayers::Last(model_layers - lowest));
        resolved.lora_parameters.scale = Some(self.scale());
        serde_json::to_value(resolved).map_err(Error::Json)
    }

    /// The error for an invalid value of this key.
    pub(crate) fn invalid(
        &self,
        key: &str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Error {
        Error::Setting {
            location: self.origin.location(key),
            key: key.to_owned(),
            expected: expected.into(),
            found: found.to_string(),
        }
    }
}
