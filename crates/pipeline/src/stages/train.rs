//! The stage `train`: trains a LoRA adapter on the training set.

use std::fs;
use std::path::{Path, PathBuf};

use durable::Digest;
use lora_train::metrics::{Metrics, Update};
use lora_train::{Data, Measured, TrainConfig, checkpoint};
use serde::{Deserialize, Serialize, Serializer};

use super::enrich::Splits;
use super::training_rows::{NotTrainedCounts, RenderedData};
use super::training_run::{self, LEFT_OUT, TrainingEnd, write_list};
use crate::base_model::BaseModel;
use crate::error::{Error, Result, io_error};
use crate::format;
use crate::registry::adapter_digest;
use crate::stage::{Artefact, Stage, StageContext, determining};
use crate::stages::StageName;

#[derive(Serialize)]
pub(crate) struct Train<'a> {
    pub model: &'a BaseModel,
    #[serde(serialize_with = "Splits::trained")]
    pub splits: &'a Splits,
    #[serde(serialize_with = "determining")]
    pub recipe: &'a TrainConfig,
    /// The largest share of the rows read that the model's chat template may refuse. It decides whether there is a
    /// result, not which.
    #[serde(skip)]
    pub max_refused_share: f64,
}

/// The trained adapter and the figures of its training.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TrainedAdapter {
    /// The adapter's folder, relative to the night's.
    pub folder: PathBuf,
    /// The adapter's digest in the registry.
    pub adapter: Digest,
    /// The adapter's files and the metrics.
    pub files: Vec<Artefact>,
    /// Path of `metrics.jsonl`, relative to the night's folder.
    pub metrics: PathBuf,
    pub losses: Losses,
    /// Optimizer updates done.
    pub updates: u64,
    /// Optimizer updates planned by the recipe.
    pub planned: u64,
    pub end: TrainingEnd,
    /// Tokens processed by the model.
    pub processed_tokens: u64,
    /// Tokens with a loss (supervised positions).
    pub trained_tokens: u64,
    pub seconds: f64,
    pub peak_memory_bytes: u64,
    /// Largest resident set of the process after an update.
    pub rss_bytes: u64,
    /// Rows that are not trained, or not as a whole; `left-out.jsonl` in the stage's folder lists them.
    pub set_aside: NotTrainedCounts,
    /// With `nightshift.eval_best`, what was measured of the adapter, which may be an earlier one than the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Measured>,
}

/// Losses of a training run, as means per trained token.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Losses {
    /// Mean of the first tenth of the updates.
    pub train_first: f64,
    /// Mean of the last tenth of the updates.
    pub train_last: f64,
    /// Validation loss before the first update, if there are validation rows.
    pub valid_first: Option<f64>,
    /// Validation loss after the last update.
    pub valid_last: Option<f64>,
}

impl Train<'_> {
    /// Runs the stage with what `choose` takes of the rows: a night trains all of them, its rehearsal a few.
    pub fn train_rows(
        &self,
        ctx: &mut StageContext<'_>,
        choose: impl FnOnce(Data) -> Result<Data>,
    ) -> Result<TrainedAdapter> {
        // Without time and without a checkpoint there will be no adapter.
        let checkpoints = ctx.dir.join("checkpoints");
        if ctx.budgets.time_to_train().is_zero() && checkpoint::is_empty(&checkpoints)? {
            return Err(ctx.out_of_time());
        }
        let mut config = self.recipe.clone();
        config.adapter_path = ctx.dir.to_path_buf();
        // The model first: for a file of an unknown architecture, its error is the more useful one.
        ctx.progress(0, 0, "opening the model");
        let model = lora_train::open_model(&self.model.path)?;
        let tokenizer = ctx.tokenizer(&self.model.path)?;
        let share = self.max_refused_share;
        let rendered = self.splits.rendered(ctx.night, &tokenizer, &config, share)?;
        let RenderedData { data, not_trained, .. } = rendered;
        let mut set_aside = NotTrainedCounts::default();
        not_trained.iter().for_each(|row| set_aside += row);
        write_list(&ctx.dir.join(LEFT_OUT), &not_trained)?;
        let data = choose(data)?;
        let updates = config.updates(data.train.rows().len());
        let best_only = config.nightshift.eval_best;
        let (outcome, end) = training_run::train(ctx, model, config, data)?;
        if end == TrainingEnd::Deadline && outcome.step == 0 {
            // Without an update there is no adapter to examine.
            return Err(ctx.out_of_time());
        }
        let mut trained = TrainedAdapter::of(ctx.night, ctx.dir, updates, end)?;
        trained.files.push(ctx.artefact(&ctx.dir.join(LEFT_OUT))?);
        let best = outcome.best.filter(|_| best_only);
        Ok(TrainedAdapter { set_aside, best, ..trained })
    }
}

impl Stage for Train<'_> {
    const NAME: StageName = StageName::Train;
    const VERSION: u32 = 3;
    const ACROSS_NIGHTS: bool = true;
    type Output = TrainedAdapter;

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<TrainedAdapter> {
        self.train_rows(ctx, Ok)
    }

    fn artefacts(output: &TrainedAdapter) -> Vec<&Artefact> {
        output.files.iter().collect()
    }

    fn is_complete(output: &TrainedAdapter) -> bool {
        output.partial().is_none()
    }

    fn describe(output: &TrainedAdapter) -> String {
        let Losses { train_first, train_last, valid_first, valid_last } = output.losses;
        let (name, first, last) = match (valid_first, valid_last) {
            (Some(first), Some(last)) => ("validation loss", first, last),
            _ => ("loss", train_first, train_last),
        };
        let of = match output.partial() {
            Some(planned) => format!(" of {planned}"),
            None => String::new(),
        };
        format!(
            "{}{of} updates, {name} {first:.2} to {last:.2}, {:.0} tok/s, {}",
            output.updates,
            output.processed_per_second(),
            format::bytes(output.peak_memory_bytes),
        ) + &output.chosen()
            + &not_trained(&output.set_aside)
    }
}

/// What is not trained, in words.
fn not_trained(set_aside: &NotTrainedCounts) -> String {
    let NotTrainedCounts { train, valid, cut, made } = set_aside;
    let count = |count: u64, what: &str| match count {
        0 => String::new(),
        count => format!(", {} {what}", format::count(count)),
    };
    count(train + valid + made, "rows not trained") + &count(*cut, "rows cut")
}

impl TrainedAdapter {
    /// Reads the files of a trainer in `dir`, a folder of the night.
    pub fn of(night: &Path, dir: &Path, planned: u64, end: TrainingEnd) -> Result<Self> {
        let names = ["adapter_config.json", "adapters.safetensors", "metrics.jsonl"];
        let paths = names.map(|name| dir.join(name));
        remove_without_effect(&paths[0])?;
        let files =
            paths.iter().map(|path| Artefact::of(night, path)).collect::<Result<Vec<_>>>()?;
        let metrics = Metrics::read(&paths[2])?;
        let updates: Vec<&Update> = metrics.updates().collect();
        let sum = |of: fn(&Update) -> u64| updates.iter().map(|update| of(update)).sum();
        let most = |of: fn(&Update) -> u64| updates.iter().map(|u| of(u)).max().unwrap_or_default();
        let relative = |path: &Path| path.strip_prefix(night).unwrap_or(path).to_path_buf();
        Ok(Self {
            folder: relative(dir),
            adapter: adapter_digest(dir)?,
            files,
            metrics: relative(&paths[2]),
            losses: losses(&metrics),
            updates: updates.len() as u64,
            planned,
            end,
            processed_tokens: sum(|u| u.processed_tokens),
            trained_tokens: sum(|u| u.trained_tokens),
            seconds: updates.iter().map(|u| u.seconds).sum(),
            peak_memory_bytes: most(|u| u.peak_memory_bytes),
            rss_bytes: most(|u| u.rss_bytes),
            set_aside: NotTrainedCounts::default(),
            best: None,
        })
    }

    /// The form of a trained adapter in the key of a stage that applies it.
    pub fn applied<S: Serializer>(
        trained: &&Self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        trained.adapter.serialize(serializer)
    }

    /// Which adapter was chosen as the best one, and how far it is from the base, in words.
    pub fn chosen(&self) -> String {
        let Some(Measured { step, kl, .. }) = self.best else { return String::new() };
        let best = match step == self.updates {
            true => String::new(),
            false => format!(", best after {step}"),
        };
        best + &kl.map_or(String::new(), |kl| format!(", KL to the base {kl:.3}"))
    }

    /// Processed tokens per second, over the time of the updates.
    pub fn processed_per_second(&self) -> f64 {
        self.processed_tokens as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }

    /// Trained tokens per second, over the time of the updates.
    pub fn trained_per_second(&self) -> f64 {
        self.trained_tokens as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }

    /// The number of planned updates, if the wall-clock budget ended the training before them.
    pub fn partial(&self) -> Option<u64> {
        (self.end == TrainingEnd::Deadline).then_some(self.planned)
    }

    /// The content of `metrics.jsonl`.
    pub fn metrics(&self, night: &Path) -> Result<Metrics> {
        Ok(Metrics::read(night.join(&self.metrics))?)
    }
}

/// Removes from `adapter_config.json` what did not determine the adapter, such as the paths of this night, so that
/// the same training in another home gives an adapter with the same digest.
fn remove_without_effect(path: &Path) -> Result<()> {
    let error = |e: serde_json::Error| Error::Record {
        path: path.to_path_buf(),
        line: None,
        expected: "the settings of an adapter",
        found: e.to_string(),
    };
    let bytes = fs::read(path).map_err(io_error(path, "read"))?;
    let mut settings: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&bytes).map_err(error)?;
    lora_train::config::remove_without_effect(&mut settings);
    Ok(durable::write_json(path, &settings)?)
}

fn losses(metrics: &Metrics) -> Losses {
    let train: Vec<f64> = metrics.updates().map(|update| update.loss).collect();
    let tenth = train.len().div_ceil(10);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len().max(1) as f64;
    let mut valid = metrics.validations().map(|(_, loss)| loss);
    let valid_first = valid.next();
    Losses {
        train_first: mean(train.get(..tenth).unwrap_or_default()),
        train_last: mean(train.get(train.len() - tenth..).unwrap_or_default()),
        valid_first,
        valid_last: valid.next_back().or(valid_first),
    }
}
