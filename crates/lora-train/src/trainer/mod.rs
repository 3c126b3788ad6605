//! The training loop: updates, validation, checkpoints, early stopping and time budget.

mod checks;
mod initial;
mod ranks;
mod reference;
mod validation;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use models::{Adapter, Group, Model, WeightResidency};
use serde_json::{Map, Value};

use crate::batch::{Cursor, Sampler, anchor};
use crate::best::Measured;
use crate::checkpoint::{Checkpoint, RunIdentity, TrainerState};
use crate::config::{Kl, OnBadLoss, TrainConfig};
use crate::engine::{Costs, Criterion, DropoutSeed, Engine, Layout, Load, Plan};
use crate::memory;
use crate::metrics::{BaseDivergence, Event, Record, Update, WorkPlan};
use crate::optimizer::{clip_global_norm, global_norm};
use crate::run_folder::RunFolder;
use crate::{Dataset, Error, Observer, Optimizer, Progress, Result, Schedule, Tensors};
use checks::{check_kind, check_replay, check_retention};
use initial::{check_factors, data_digest, initial_factors};
use reference::{Mismatched, PreferenceTerms, ReferenceModel, summary};

/// Opens a model for training. Only its headers are read: the [`Trainer`] loads those weights that fit into the memory
/// limit, so the model may be larger than that.
///
/// # Errors
/// As [`Model::open_with`].
pub fn open_model(path: impl AsRef<Path>) -> models::Result<Model> {
    Model::open_with(path, WeightResidency::Streamed)
}

/// Whether to resume an earlier run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Starts at the first update and removes the checkpoints and metrics in `adapter_path`.
    Fresh,
    /// Continues from the newest checkpoint in `adapter_path`, or starts if there is none
    /// ([`Trainer::resumed_from`] says which).
    Resume,
}

/// The rows or pairs of a run.
#[derive(Clone, Debug)]
pub struct Data {
    /// Training rows.
    pub train: Dataset,
    /// Validation rows.
    pub valid: Option<Dataset>,
    /// Rows for `nightshift.retention`; see [`with_retention`](Self::with_retention).
    pub retention: Option<Dataset>,
}

impl Data {
    /// All that there are.
    fn splits(&self) -> impl Iterator<Item = &Dataset> {
        [Some(&self.train), self.valid.as_ref(), self.retention.as_ref()].into_iter().flatten()
    }
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// All updates are made.
    Complete,
    /// The validation loss stopped falling, or the model moved too far from the base (`nightshift.early_stop`).
    EarlyStop,
    /// `nightshift.time_budget` is used up; [`Start::Resume`] continues the run.
    TimeBudget,
    /// The observer asked to stop; [`Start::Resume`] continues the run.
    Stopped,
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// Why it ended.
    pub ending: Ending,
    /// Updates made, including those before the run was resumed.
    pub step: u64,
    /// Updates of the whole run.
    pub updates: u64,
    /// The best adapter; `None` if nothing was measured, or no adapter is within
    /// `nightshift.retention.max_kl`.
    pub best: Option<Measured>,
    /// The peak of MLX's memory that was expected.
    pub estimated_memory_bytes: u64,
    /// The peak of MLX's memory that was measured.
    pub peak_memory_bytes: u64,
}

/// One training run.
///
/// ```no_run
/// use lora_train::{Data, Dataset, Example, Start, TrainConfig, Trainer};
///
/// let config = TrainConfig::load("night.yaml")?;
/// let model = models::Model::open("SmolLM2-135M-Instruct.Q4_1.gguf")?;
/// let rows = [Example::new(vec![1, 2, 3], vec![1..3])];
/// let train = Dataset::new("train", rows, config.max_seq_length)?;
/// let outcome =
///     Trainer::new(model, config, Data { train, valid: None, retention: None }, Start::Resume)?.run(&mut ())?;
/// println!("{:?} after {} updates", outcome.ending, outcome.step);
/// # Ok::<(), lora_train::Error>(())
/// ```
pub struct Trainer {
    model: Model,
    config: TrainConfig,
    data: Data,
    layout: Layout,
    engine: Engine,
    schedule: Schedule,
    folder: RunFolder,
    sampler: Sampler,
    optimizer: Optimizer,
    factors: Tensors,
    state: TrainerState,
    resumed_from: Option<PathBuf>,
    /// Whether the plan that the run began with no longer fits.
    replanned: bool,
    /// With pairs.
    preference: Option<PreferenceTerms>,
}

impl Trainer {
    /// Prepares a run and checks its configuration, data and checkpoint.
    ///
    /// # Errors
    /// [`Error::Setting`] for a configuration that does not fit the model or the memory limit,
    /// [`Error::TokenOutOfRange`] for rows of another tokenizer; when resuming,
    /// [`Error::RunChanged`], [`Error::BadTensors`], [`Error::AdapterMismatch`] or
    /// [`Error::OptimizerState`] for a checkpoint that cannot be continued.
    pub fn new(model: Model, config: TrainConfig, data: Data, start: Start) -> Result<Self> {
        Self::over(Group::alone(), model, config, data, start)
    }

    /// Prepares a run over the ranks of a group, each of which calls this with the same configuration, data and model.
    /// Of each update every rank computes a share of about as many tokens, and the sums of all ranks give the same
    /// adapter on each. Rank 0 alone reads and writes the checkpoints, the metrics and the adapter.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`RankError::Differs`](models::RankError::Differs) names a rank whose program, model, data
    /// or settings are others than rank 0's.
    pub fn over(
        group: Group,
        model: Model,
        config: TrainConfig,
        data: Data,
        start: Start,
    ) -> Result<Self> {
        let vocabulary = model.head().vocab_size();
        data.splits().try_for_each(|split| split.check_tokens(vocabulary))?;
        let learned = [Some(&data.train), data.valid.as_ref()].into_iter().flatten();
        learned.into_iter().try_for_each(|split| check_kind(&config, split))?;
        check_replay(&config, &data.train)?;
        check_retention(&config, &data)?;
        ranks::check_same(&group, &config, &data)?;
        let layout = Layout::new(&config, &model)?;
        let schedule = Schedule::new(&config, config.updates(data.train.examples()))?;
        let keep = config.nightshift.keep_checkpoints;
        let folder = RunFolder::create(&config.adapter_path, keep, &group)?;
        let saved = match start {
            Start::Fresh => None,
            Start::Resume => ranks::newest(&group, &folder)?,
        };
        let mut optimizer = Optimizer::new(&config);
        let identity = RunIdentity {
            config: config.by_content()?,
            data: data_digest(&data),
            plan: match saved.as_ref().map(|(_, saved)| &saved.state.identity.plan) {
                // Another rank's plan is for another machine.
                Some(plan) if group.is_first() && plan.fits(&config) => plan.clone(),
                _ => plan(&model, &config, &data, &layout)?,
            },
        };
        let resumed_from = saved.as_ref().map(|(path, _)| path.clone());
        let mut replanned = false;
        let (factors, state) = match saved {
            Some((path, saved)) => {
                let differences = saved.state.identity.differences(&identity);
                if !differences.is_empty() {
                    return Err(Error::RunChanged { path, differences });
                }
                check_factors(&layout, &saved.factors, &path)?;
                let Checkpoint { state, factors, optimizer: moments } = saved;
                optimizer.restore(state.optimizer_step, moments, &factors)?;
                folder.rewind_metrics(state.metrics_bytes)?;
                replanned = state.identity.plan != identity.plan;
                (factors, TrainerState { identity, ..state })
            }
            None => {
                folder.clear()?;
                (initial_factors(&config, &layout, &model)?, TrainerState::initial(identity))
            }
        };
        let sampler = Sampler::new(data.train.examples(), config.seed, state.cursor);
        let plan = state.identity.plan.clone();
        let model = model.with_dense_products()?.with_weights(plan.embeddings, &plan.layers)?;
        let engine = Engine::start(&model, layout.clone(), plan, &config.adapter_path, group)?;
        let reference =
            ReferenceModel { engine: &engine, config: &config, layout: &layout, model: &model };
        let preference =
            config.objective().map(|objective| reference.terms(objective, &data)).transpose()?;
        Ok(Self {
            model,
            config,
            data,
            layout,
            engine,
            schedule,
            folder,
            sampler,
            optimizer,
            factors,
            state,
            resumed_from,
            replanned,
            preference,
        })
    }

    /// The checkpoint that the run continues from. `None` if it begins with its first update, which
    /// [`Start::Resume`] does where there is no checkpoint.
    pub fn resumed_from(&self) -> Option<&Path> {
        self.resumed_from.as_deref()
    }

    /// The plan of a run, without starting it. No weights are read: a model opened as
    /// [`Streamed`](models::WeightResidency::Streamed) may be larger than the memory.
    ///
    /// # Errors
    /// [`Error::Setting`] if `nightshift.memory_limit` is too small, with the smallest sufficient one.
    pub fn plan(model: &Model, config: &TrainConfig, data: &Data) -> Result<WorkPlan> {
        Ok(plan(model, config, data, &Layout::new(config, model)?)?.summary())
    }

    /// Trains to the end of the run, or until `observer`, the time budget or early stopping end it.
    /// Writes the adapter and a checkpoint in either case.
    ///
    /// # Errors
    /// [`Error::NotFinite`] with `nightshift.on_bad_loss: stop`; otherwise if MLX fails or a file
    /// cannot be written.
    pub fn run(mut self, observer: &mut dyn Observer) -> Result<Outcome> {
        let begun = Instant::now();
        mlx_rs::memory::reset_peak_memory()?;
        let updates = self.config.updates(self.data.train.examples());
        let mut control = self.begin(updates, observer)?;
        let ending = loop {
            if self.stops_early() {
                break Ending::EarlyStop;
            }
            if self.state.step >= updates {
                break Ending::Complete;
            }
            let budget = self.config.nightshift.time_budget;
            let wishes =
                [control.is_break(), budget.is_some_and(|budget| begun.elapsed() >= budget)];
            let [stop, spent] = self.engine.group().sum(wishes.map(u64::from))?;
            if stop > 0 {
                break Ending::Stopped;
            }
            if spent > 0 {
                break Ending::TimeBudget;
            }
            control = self.advance(updates, observer)?;
        };
        // The run is over, so the observer's answer does not matter.
        let _ = self.save(observer)?;
        let first = self.engine.group().is_first();
        if first && self.config.nightshift.eval_best && self.state.best.is_some() {
            let best = Adapter::load(self.folder.best()?, &self.model)?;
            self.save_adapter(&best, &self.config.adapter_path)?;
        }
        // No rank ends before the adapter is written.
        self.engine.group().barrier()?;
        Ok(Outcome {
            ending,
            step: self.state.step,
            updates,
            best: self.state.best,
            estimated_memory_bytes: self.engine.plan().estimated_bytes,
            peak_memory_bytes: peak_memory()?,
        })
    }

    /// Reports the plan. A new run also validates the untrained adapter; a resumed one records only a plan that is
    /// another than before.
    fn begin(&mut self, updates: u64, observer: &mut dyn Observer) -> Result<ControlFlow<()>> {
        let plan = self.engine.plan();
        let plan = Record::Event(Event::Plan {
            rows: self.data.train.examples() as u64,
            updates,
            parameters: self.factors.values().map(|factor| factor.size() as u64).sum(),
            layers: self.layout.adapted_layers() as u64,
            work: plan.summary(),
        });
        if self.state.metrics_bytes > 0 {
            if self.replanned {
                return self.record(plan, observer);
            }
            return Ok(observer.observe(Progress::Recorded(&plan)));
        }
        let mut control = self.record(plan, observer)?;
        let reference = self.preference.as_mut().and_then(|terms| terms.event.take());
        if let Some(event) = reference {
            control = and(control, self.record(Record::Event(event), observer)?);
        }
        Ok(and(control, self.validate(observer)?))
    }

    /// Makes one update, then validates and saves if due.
    fn advance(&mut self, updates: u64, observer: &mut dyn Observer) -> Result<ControlFlow<()>> {
        let mut control = match self.update() {
            Ok(update) => self.record(Record::Update(update), observer)?,
            Err(bad @ Error::NotFinite { .. }) => {
                let report = self.folder.report_bad_rows(&bad)?;
                if self.config.nightshift.on_bad_loss == OnBadLoss::Stop {
                    return Err(bad);
                }
                observer.observe(Progress::Skipped { step: self.state.step, report: &report })
            }
            Err(other) => return Err(other),
        };
        let last = self.state.step == updates;
        if last || self.is_due(self.config.steps_per_eval) {
            control = and(control, self.validate(observer)?);
        }
        if !last && self.is_due(self.config.save_every) {
            control = and(control, self.save(observer)?);
        }
        Ok(control)
    }

    /// Whether the last update passed a multiple of `every` iterations.
    fn is_due(&self, every: u64) -> bool {
        let group = self.config.grad_accumulation_steps as u64;
        let (before, after) = ((self.state.step - 1) * group, self.state.step * group);
        every > 0 && before / every < after / every
    }

    /// Makes the next update, without validation, metrics file or checkpoint.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if the loss or the gradient is infinite or NaN. The adapter is not
    /// changed, and the next call takes the next rows.
    pub fn update(&mut self) -> Result<Update> {
        let begun = Instant::now();
        let examples = self.sampler.take(self.examples_of_update());
        let mut batches = self.engine.pack(&self.data.train, &examples)?;
        let kl = self.config.nightshift.kl;
        let whole = |own| Ok(self.engine.group().sum([own])?[0]);
        let anchors = kl.map_or(Ok(0), |Kl { weight, on, .. }| {
            anchor(&mut batches, &self.data.train, on, weight, whole)
        })?;
        let dropout = DropoutSeed::new(self.config.seed, self.state.step);
        let split = self.preference.as_ref().map(|terms| &terms.train);
        let terms = split.map(|split| split.of(&self.engine, &self.factors, &examples));
        let (terms, baseline_tokens) = terms.transpose()?.unzip();
        let criterion = terms.clone().map_or(Criterion::Mean, Criterion::Pairs);
        let mut sums = self.engine.gradients(&self.factors, batches, dropout, criterion)?;
        let (loss, preference) = summary(terms.as_ref(), &sums);
        let kl = kl.map(|Kl { weight, .. }| BaseDivergence {
            mean: sums.divergence / weight,
            tokens: anchors,
        });
        let learning_rate = self.schedule.at(self.state.step);
        self.state.step += 1;
        self.state.rows += examples.len() as u64;
        self.state.cursor = self.sampler.cursor();

        let step = self.state.step;
        if !loss.is_finite() {
            let rows = self.row_numbers(&sums.bad_rows);
            return Err(Error::NotFinite { step, what: "loss", value: loss, rows });
        }
        if let Some(BaseDivergence { mean, .. }) = kl.filter(|kl| !kl.mean.is_finite()) {
            let rows: Vec<usize> = sums.rows.iter().map(|row| row.row).collect();
            let rows = self.row_numbers(&rows);
            return Err(Error::NotFinite { step, what: "KL to the base model", value: mean, rows });
        }
        let grad_norm = match self.config.nightshift.max_grad_norm {
            Some(limit) => clip_global_norm(&mut sums.gradients, limit)?,
            None => global_norm(&sums.gradients)?,
        };
        if !grad_norm.is_finite() {
            let rows: Vec<usize> = sums.rows.iter().map(|row| row.row).collect();
            let rows = self.row_numbers(&rows);
            return Err(Error::NotFinite { step, what: "gradient", value: grad_norm, rows });
        }
        self.optimizer.update(&mut self.factors, &sums.gradients, learning_rate)?;
        Ok(Update {
            step,
            loss,
            learning_rate,
            grad_norm,
            processed_tokens: sums.processed,
            computed_tokens: sums.computed + baseline_tokens.unwrap_or_default(),
            trained_tokens: sums.trained,
            seconds: begun.elapsed().as_secs_f64(),
            peak_memory_bytes: peak_memory()?,
            rss_bytes: memory::resident_memory().unwrap_or_default(),
            preference,
            kl,
        })
    }

    /// The number of rows or pairs of the next update; the last one may have fewer.
    fn examples_of_update(&self) -> usize {
        let config = &self.config;
        let all = config.examples(self.data.train.examples());
        let full = (config.batch_size * config.grad_accumulation_steps) as u64;
        full.min(all.saturating_sub(self.state.rows)) as usize
    }

    /// Writes the adapter and a checkpoint, on rank 0.
    fn save(&self, observer: &mut dyn Observer) -> Result<ControlFlow<()>> {
        let group = self.engine.group();
        ranks::check_state(group, self.state.step, &self.factors, self.optimizer.state())?;
        if !group.is_first() {
            return Ok(ControlFlow::Continue(()));
        }
        self.save_adapter(&self.layout.adapter(&self.factors)?, &self.config.adapter_path)?;
        let optimizer_step = self.optimizer.step();
        let checkpoint = Checkpoint {
            state: TrainerState { optimizer_step, ..self.state.clone() },
            factors: self.factors.clone(),
            optimizer: self.optimizer.state().clone(),
        };
        let path = self.folder.save_checkpoint(&checkpoint)?;
        Ok(observer.observe(Progress::Saved { step: self.state.step, path: &path }))
    }

    fn record(&mut self, record: Record, observer: &mut dyn Observer) -> Result<ControlFlow<()>> {
        self.folder.record(&record)?;
        self.state.metrics_bytes = self.folder.metrics_bytes();
        Ok(observer.observe(Progress::Recorded(&record)))
    }

    fn save_adapter(&self, adapter: &Adapter, folder: &Path) -> Result<()> {
        if !self.engine.group().is_first() {
            return Ok(());
        }
        let config = match self.config.adapter_config(self.model.layers().len())? {
            Value::Object(keys) => keys,
            _ => Map::new(),
        };
        Ok(adapter.save(folder, &self.model, &config)?)
    }

    /// The numbers in the data file of these rows of the data set.
    fn row_numbers(&self, rows: &[usize]) -> Vec<usize> {
        let all = self.data.train.rows();
        let mut numbers: Vec<_> =
            rows.iter().filter_map(|&row| Some(all.get(row)?.number())).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

fn plan(model: &Model, config: &TrainConfig, data: &Data, layout: &Layout) -> Result<Plan> {
    let rows = config.batch_size * config.grad_accumulation_steps;
    // One epoch is enough: the others have the same rows in another order.
    let count = data.train.examples();
    let mut sampler = Sampler::new(count, config.seed, Cursor::default());
    let updates: Vec<_> = (0..count.div_ceil(rows)).map(|_| sampler.take(rows)).collect();
    let mismatched = Mismatched::datasets(config, data)?;
    // The reference takes a pass over all pairs.
    let referred = config.objective().filter(|objective| objective.needs_reference());
    let referred = referred.map(|_| &data.train);
    let others: Vec<&Dataset> = data.valid.iter().chain(&mismatched).chain(referred).collect();
    let load = Load::new(&data.train, &updates, &others);
    let optimizer = Optimizer::new(config);
    let anchored = config.nightshift.kl.is_some();
    Plan::new(config, &Costs { model, layout, optimizer: &optimizer, load, anchored })
}

/// MLX's peak memory since the run began, in bytes.
fn peak_memory() -> Result<u64> {
    Ok(mlx_rs::memory::peak_memory()? as u64)
}

/// Break if either does.
fn and(a: ControlFlow<()>, b: ControlFlow<()>) -> ControlFlow<()> {
    if a.is_break() { a } else { b }
}
