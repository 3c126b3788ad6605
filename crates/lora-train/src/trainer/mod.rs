//! The run: update after update, with validation, checkpoints and an end.

mod begin;
mod validation;

use std::ops::ControlFlow;
use std::time::Instant;

use models::Model;
use serde_json::{Map, Value};

use crate::batch::{Cursor, MicroBatch, Sampler, pack};
use crate::checkpoint::{Checkpoint, Identity, Position};
use crate::config::{OnBadLoss, TrainConfig};
use crate::engine::{Costs, Engine, Layout, Load, Plan};
use crate::metrics::{self, Event, Record, Update};
use crate::run_folder::RunFolder;
use crate::{
    Dataset, Error, Observer, Optimizer, Progress, Result, Schedule, Tensors, clip_global_norm,
    global_norm,
};
use begin::{digest, fits, initial_factors};

/// Where a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At its first update; what an earlier run left in `adapter_path` is removed.
    Afresh,
    /// At the newest checkpoint in `adapter_path`, or at the first update if there is none.
    Resume,
}

/// The rows of a run.
#[derive(Clone, Debug)]
pub struct Data {
    /// Rows that are trained on.
    pub train: Dataset,
    /// Rows whose loss is measured now and then.
    pub valid: Option<Dataset>,
}

/// How a run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All updates are made.
    Complete,
    /// The validation loss no longer fell (`nightshift.early_stop`).
    EarlyStop,
    /// The time was up (`nightshift.time_budget`); [`Start::Resume`] goes on from here.
    TimeBudget,
    /// The observer asked to stop; [`Start::Resume`] goes on from here.
    Stopped,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Why it ended.
    pub ending: Ending,
    /// Updates made, earlier sessions included.
    pub step: u64,
    /// Updates the run has in all.
    pub updates: u64,
    /// The lowest validation loss and the step it was measured at.
    pub best: Option<(u64, f64)>,
    /// The most that MLX was expected to hold.
    pub estimated_memory_bytes: u64,
    /// The most that it did hold.
    pub peak_memory_bytes: u64,
}

/// One training run.
///
/// ```no_run
/// use lora_train::{Data, Dataset, Example, Start, TrainConfig, Trainer};
///
/// let config = TrainConfig::load("night.yaml")?;
/// let model = models::Model::open("SmolLM2-135M-Instruct.Q4_1.gguf")?;
/// let rows = [Example { tokens: vec![1, 2, 3], trained: vec![1..3] }];
/// let train = Dataset::new("train", rows, config.max_seq_length)?;
/// let outcome =
///     Trainer::new(model, config, Data { train, valid: None }, Start::Resume)?.run(&mut ())?;
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
    position: Position,
}

impl Trainer {
    /// Gets a run ready: everything that could be wrong with it is found here.
    pub fn new(model: Model, config: TrainConfig, data: Data, start: Start) -> Result<Self> {
        let vocabulary = model.head().vocab_size();
        for split in [Some(&data.train), data.valid.as_ref()].into_iter().flatten() {
            split.check_tokens(vocabulary)?;
        }
        let layout = Layout::new(&config, &model)?;
        let schedule = Schedule::new(&config, config.updates(data.train.rows().len()))?;
        let folder = RunFolder::create(&config.adapter_path, config.nightshift.keep_checkpoints)?;
        let saved = match start {
            Start::Afresh => None,
            Start::Resume => folder.newest()?,
        };
        let mut optimizer = Optimizer::new(&config);
        let identity = Identity {
            config: serde_json::to_value(&config).map_err(Error::Json)?,
            data: digest(&data),
            plan: match &saved {
                Some((_, saved)) => saved.position.identity.plan.clone(),
                None => plan(&model, &config, &data, &layout)?,
            },
        };
        let (factors, position) = match saved {
            Some((path, saved)) => {
                let differences = saved.position.identity.differences(&identity);
                if !differences.is_empty() {
                    return Err(Error::RunChanged { path, differences });
                }
                fits(&layout, &saved.factors, &path)?;
                let Checkpoint { position, factors, optimizer: state } = saved;
                optimizer.restore(position.optimizer_step, state, &factors)?;
                folder.rewind_metrics(position.metrics_bytes)?;
                (factors, position)
            }
            None => {
                folder.clear()?;
                (initial_factors(&config, &layout, &model)?, Position::start(identity))
            }
        };
        let rows = data.train.rows().len();
        let sampler = Sampler::new(rows, config.seed, position.cursor);
        let plan = position.identity.plan.clone();
        let model = model.with_weights(plan.embeddings, &plan.layers)?;
        let engine = Engine::start(&model, layout.clone(), plan, &config.adapter_path)?;
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
            position,
        })
    }

    /// How a run would be done. No weights are read: a model opened as
    /// [`Streamed`](models::WeightResidency::Streamed) may be larger than the memory.
    ///
    /// # Errors
    /// [`Error::Setting`] with the smallest `nightshift.memory_limit` that would do.
    pub fn plan(model: &Model, config: &TrainConfig, data: &Data) -> Result<metrics::WorkPlan> {
        Ok(plan(model, config, data, &Layout::new(config, model)?)?.summary())
    }

    /// Trains until the end, or until `observer`, the clock or the validation loss end it.
    pub fn run(mut self, observer: &mut dyn Observer) -> Result<Outcome> {
        let begun = Instant::now();
        metrics::reset_peak_memory()?;
        let updates = self.config.updates(self.data.train.rows().len());
        let mut control = self.begin(updates, observer)?;
        let ending = loop {
            if self.gave_up() {
                break Ending::EarlyStop;
            }
            if self.position.step >= updates {
                break Ending::Complete;
            }
            if control.is_break() {
                break Ending::Stopped;
            }
            if self.config.nightshift.time_budget.is_some_and(|budget| begun.elapsed() >= budget) {
                break Ending::TimeBudget;
            }
            control = self.advance(updates, observer)?;
        };
        // Asking to stop has no effect any more: the run is over.
        let _ = self.save(observer)?;
        if self.config.nightshift.eval_best && self.position.best.is_some() {
            let best = self.folder.best(&self.model)?;
            self.folder.save_adapter(&best, &self.model, &self.notes()?)?;
        }
        Ok(Outcome {
            ending,
            step: self.position.step,
            updates,
            best: self.position.best,
            estimated_memory_bytes: self.engine.plan().estimated_bytes,
            peak_memory_bytes: metrics::peak_memory()?,
        })
    }

    /// Tells the plan; a new run also measures the untrained adapter.
    fn begin(&mut self, updates: u64, observer: &mut dyn Observer) -> Result<ControlFlow<()>> {
        let plan = self.engine.plan();
        let plan = Record::Event(Event::Plan {
            rows: self.data.train.rows().len() as u64,
            updates,
            parameters: self.factors.values().map(|factor| factor.size() as u64).sum(),
            layers: self.layout.adapted_layers() as u64,
            work: plan.summary(),
        });
        if self.position.metrics_bytes > 0 {
            return Ok(observer.observe(Progress::Recorded(&plan)));
        }
        let told = self.record(plan, observer)?;
        Ok(and(told, self.validate(observer)?))
    }

    /// One update, and what is due after it.
    fn advance(&mut self, updates: u64, observer: &mut dyn Observer) -> Result<ControlFlow<()>> {
        let mut control = match self.update() {
            Ok(update) => self.record(Record::Update(update), observer)?,
            Err(bad @ Error::NotFinite { .. }) => {
                let report = self.folder.report_bad_rows(&bad)?;
                if self.config.nightshift.on_bad_loss == OnBadLoss::Stop {
                    return Err(bad);
                }
                observer.observe(Progress::Skipped { step: self.position.step, report: &report })
            }
            Err(other) => return Err(other),
        };
        let last = self.position.step == updates;
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
        let (before, after) = ((self.position.step - 1) * group, self.position.step * group);
        every > 0 && before / every < after / every
    }

    /// Makes the next update and nothing else: no validation, no record, no checkpoint.
    ///
    /// # Errors
    /// [`Error::NotFinite`] when the loss or the gradient is no number; the adapter is then as it
    /// was, and the next call goes on with the next rows.
    pub fn update(&mut self) -> Result<Update> {
        let begun = Instant::now();
        let rows = self.sampler.take(self.rows_of_update());
        let batches = self.pack(&self.data.train, &rows)?;
        let moment = (self.config.seed, self.position.step);
        let mut sums = self.engine.gradients(&self.factors, batches, moment)?;
        let learning_rate = self.schedule.at(self.position.step);
        self.position.step += 1;
        self.position.rows += rows.len() as u64;
        self.position.cursor = self.sampler.cursor();

        let (step, loss) = (self.position.step, sums.mean());
        let numbers = |rows: &[usize]| self.numbers(rows);
        if !loss.is_finite() {
            let rows = numbers(&sums.suspects);
            return Err(Error::NotFinite { step, what: "loss", value: loss, rows });
        }
        let grad_norm = match self.config.nightshift.max_grad_norm {
            Some(limit) => clip_global_norm(&mut sums.gradients, limit)?,
            None => global_norm(&sums.gradients)?,
        };
        if !grad_norm.is_finite() {
            let rows = numbers(&rows);
            return Err(Error::NotFinite { step, what: "gradient", value: grad_norm, rows });
        }
        self.optimizer.update(&mut self.factors, &sums.gradients, learning_rate)?;
        Ok(Update {
            step,
            loss,
            learning_rate,
            grad_norm,
            processed_tokens: sums.processed,
            computed_tokens: sums.computed,
            trained_tokens: sums.trained,
            seconds: begun.elapsed().as_secs_f64(),
            peak_memory_bytes: metrics::peak_memory()?,
            rss_bytes: metrics::resident_memory().unwrap_or_default(),
        })
    }

    /// Rows of the next update: fewer than usual in the last one, if they do not come out even.
    fn rows_of_update(&self) -> usize {
        let config = &self.config;
        let rows = self.data.train.rows().len();
        let all = match config.nightshift.epochs {
            Some(epochs) => (epochs * rows as f64).ceil() as u64,
            None => config.iters * config.batch_size as u64,
        };
        let full = (config.batch_size * config.grad_accumulation_steps) as u64;
        full.min(all.saturating_sub(self.position.rows)) as usize
    }

    fn pack(&self, data: &Dataset, rows: &[usize]) -> Result<Vec<MicroBatch>> {
        let plan = self.engine.plan();
        pack(data.rows(), rows, plan.tokens, plan.lanes)
    }

    /// Writes the adapter and a checkpoint.
    fn save(&self, observer: &mut dyn Observer) -> Result<ControlFlow<()>> {
        let adapter = self.layout.adapter(&self.factors)?;
        self.folder.save_adapter(&adapter, &self.model, &self.notes()?)?;
        let optimizer_step = self.optimizer.step();
        let checkpoint = Checkpoint {
            position: Position { optimizer_step, ..self.position.clone() },
            factors: self.factors.clone(),
            optimizer: self.optimizer.state().clone(),
        };
        let path = self.folder.save_checkpoint(&checkpoint)?;
        Ok(observer.observe(Progress::Saved { step: self.position.step, path: &path }))
    }

    fn record(&mut self, record: Record, observer: &mut dyn Observer) -> Result<ControlFlow<()>> {
        self.folder.record(&record)?;
        self.position.metrics_bytes = self.folder.metrics_bytes();
        Ok(observer.observe(Progress::Recorded(&record)))
    }

    /// What `adapter_config.json` says beside the adapter's own keys.
    fn notes(&self) -> Result<Map<String, Value>> {
        match self.config.adapter_config(self.model.layers().len())? {
            Value::Object(notes) => Ok(notes),
            _ => Ok(Map::new()),
        }
    }

    /// Row numbers, as in the file, of rows of the data set.
    fn numbers(&self, rows: &[usize]) -> Vec<usize> {
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
    // Those of one epoch; others hold the same rows in another order.
    let count = data.train.rows().len();
    let mut sampler = Sampler::new(count, config.seed, Cursor::default());
    let updates: Vec<_> = (0..count.div_ceil(rows)).map(|_| sampler.take(rows)).collect();
    let load = Load::new(&data.train, &updates, data.valid.as_ref());
    let optimizer = Optimizer::new(config);
    Plan::new(config, &Costs { model, layout, optimizer: &optimizer, load })
}

/// Break if either does.
fn and(a: ControlFlow<()>, b: ControlFlow<()>) -> ControlFlow<()> {
    if a.is_break() { a } else { b }
}
