//! An adapter from the dataset.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use chat_format::{ChatTokenizer, RenderOptions, Supervision, jsonl};
use durable::Digest;
use lora_train::metrics::{Event, Record, Update};
use lora_train::{Data, Dataset, Ending, Example, Progress, Start, TrainConfig, Trainer};
use serde::{Deserialize, Serialize};

use super::enrich::Splits;
use crate::error::{Error, Result, io_error};
use crate::model::BaseModel;
use crate::registry::adapter_digest;
use crate::report::words;
use crate::stage::{Artefact, Desk, Stage, StageName};

/// What is trained on what.
#[derive(Serialize)]
pub(crate) struct Train<'a> {
    /// The base model.
    pub model: &'a BaseModel,
    /// The dataset.
    pub splits: &'a Splits,
    /// How.
    pub recipe: &'a TrainConfig,
}

/// The adapter, and how the training went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Trained {
    /// The adapter's folder within the night's.
    pub folder: PathBuf,
    /// The adapter's identity in the registry.
    pub adapter: Digest,
    /// Its files and the run's metrics.
    pub files: Vec<Artefact>,
    /// `metrics.jsonl` within the night's folder.
    pub metrics: PathBuf,
    /// The run in figures.
    pub losses: Losses,
    /// Optimizer updates.
    pub updates: u64,
    /// Tokens that went through the model.
    pub processed_tokens: u64,
    /// Tokens that were predicted and scored.
    pub trained_tokens: u64,
    /// Seconds of all updates.
    pub seconds: f64,
    /// The most that MLX held at once.
    pub peak_memory_bytes: u64,
    /// The most memory the process had resident after an update.
    pub rss_bytes: u64,
}

/// Losses of a training run, as means per trained token.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Losses {
    /// Mean of the first tenth of the updates.
    pub train_first: f64,
    /// Mean of the last tenth of the updates.
    pub train_last: f64,
    /// On the validation rows before the first update, if there are any.
    pub valid_first: Option<f64>,
    /// On the validation rows after the last update.
    pub valid_last: Option<f64>,
}

impl Stage for Train<'_> {
    const NAME: StageName = StageName::Train;
    type Output = Trained;

    fn run(&self, desk: &mut Desk<'_>) -> Result<Trained> {
        let config = TrainConfig { adapter_path: desk.dir().to_path_buf(), ..self.recipe.clone() };
        // The model before its tokenizer: of a file that is neither, the architecture is the news.
        desk.progress(0, 0, "opening the model");
        let model = models::Model::open(&self.model.path)?;
        let tokenizer = ChatTokenizer::open(&self.model.path)?;
        let split = |name, file: &Artefact| {
            let rows = examples(&tokenizer, &file.verified(desk.night())?, config.mask_prompt)?;
            Ok::<_, Error>(Dataset::new(name, rows, config.max_seq_length)?)
        };
        let train = split("train", &self.splits.train)?;
        let valid = match self.splits.valid_rows {
            0 => None,
            _ => Some(split("valid", &self.splits.valid)?),
        };
        let updates = config.updates(train.rows().len());
        let trainer = Trainer::new(model, config, Data { train, valid }, Start::Resume)?;
        let mut watch = |progress: Progress<'_>| {
            if let Progress::Recorded(record) = progress {
                let (step, note) = tell(record);
                desk.progress(step, updates, &note);
            }
            match desk.deadline().has_passed() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let outcome = trainer.run(&mut watch)?;
        match outcome.ending {
            Ending::Complete | Ending::EarlyStop => trained(desk),
            Ending::TimeBudget | Ending::Stopped => Err(desk.out_of_time()),
        }
    }

    fn artefacts(output: &Trained) -> Vec<&Artefact> {
        output.files.iter().collect()
    }

    fn figures(output: &Trained) -> String {
        let Losses { train_first, train_last, valid_first, valid_last } = output.losses;
        let (name, first, last) = match (valid_first, valid_last) {
            (Some(first), Some(last)) => ("validation loss", first, last),
            _ => ("loss", train_first, train_last),
        };
        format!(
            "{} updates, {name} {first:.2} to {last:.2}, {:.0} tok/s, {}",
            output.updates,
            output.processed_per_second(),
            words::bytes(output.peak_memory_bytes),
        )
    }
}

impl Trained {
    /// Tokens per second through the model, over the time of the updates.
    pub fn processed_per_second(&self) -> f64 {
        self.processed_tokens as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }

    /// Scored tokens per second, over the time of the updates.
    pub fn trained_per_second(&self) -> f64 {
        self.trained_tokens as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }

    /// All records of the run.
    pub fn records(&self, night: &Path) -> Result<Vec<Record>> {
        read_records(&night.join(&self.metrics))
    }
}

/// The rows of a split as tokens, with the model's own template.
fn examples(tokenizer: &ChatTokenizer, path: &Path, mask_prompt: bool) -> Result<Vec<Example>> {
    let supervision = if mask_prompt { Supervision::AssistantTurns } else { Supervision::All };
    let options = RenderOptions::default();
    jsonl::Reader::open(path)?
        .conversations()
        .map(|row| {
            let row = tokenizer.training_row(&row?, &options, supervision)?;
            Ok(Example { tokens: row.tokens, trained: row.trained })
        })
        .collect()
}

fn tell(record: &Record) -> (u64, String) {
    match record {
        Record::Update(update) => {
            let speed = update.processed_tokens as f64 / update.seconds.max(f64::MIN_POSITIVE);
            (update.step, format!("loss {:.3}, {speed:.0} tok/s", update.loss))
        }
        Record::Event(Event::Validation { step, loss, .. }) => {
            (*step, format!("validation loss {loss:.3}"))
        }
        Record::Event(Event::Plan { rows, .. }) => (0, format!("{rows} rows")),
    }
}

/// Takes the paths of this night out of `adapter_config.json`: the same training in another home
/// makes the same adapter, and should have the same name.
fn forget_paths(path: &Path) -> Result<()> {
    let broken = |e: serde_json::Error| Error::Record {
        path: path.to_path_buf(),
        line: None,
        expected: "the settings of an adapter",
        found: e.to_string(),
    };
    let bytes = fs::read(path).map_err(io_error(path, "read"))?;
    let mut settings: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&bytes).map_err(broken)?;
    for key in ["adapter_path", "config", "data", "model"] {
        settings.shift_remove(key);
    }
    Ok(durable::write_json(path, &settings)?)
}

/// Takes down what the trainer left in the stage's folder.
fn trained(desk: &Desk<'_>) -> Result<Trained> {
    let names = ["adapter_config.json", "adapters.safetensors", "metrics.jsonl"];
    let paths = names.map(|name| desk.dir().join(name));
    forget_paths(&paths[0])?;
    let files = paths.iter().map(|path| desk.artefact(path)).collect::<Result<Vec<_>>>()?;
    let records = read_records(&paths[2])?;
    let updates: Vec<&Update> = records.iter().filter_map(as_update).collect();
    let sum = |of: fn(&Update) -> u64| updates.iter().map(|update| of(update)).sum();
    let most = |of: fn(&Update) -> u64| updates.iter().map(|u| of(u)).max().unwrap_or_default();
    let relative = |path: &Path| path.strip_prefix(desk.night()).unwrap_or(path).to_path_buf();
    Ok(Trained {
        folder: relative(desk.dir()),
        adapter: adapter_digest(desk.dir())?,
        files,
        metrics: relative(&paths[2]),
        losses: losses(&records),
        updates: updates.len() as u64,
        processed_tokens: sum(|u| u.processed_tokens),
        trained_tokens: sum(|u| u.trained_tokens),
        seconds: updates.iter().map(|u| u.seconds).sum(),
        peak_memory_bytes: most(|u| u.peak_memory_bytes),
        rss_bytes: most(|u| u.rss_bytes),
    })
}

fn losses(records: &[Record]) -> Losses {
    let train: Vec<f64> = records.iter().filter_map(as_update).map(|u| u.loss).collect();
    let tenth = train.len().div_ceil(10);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len().max(1) as f64;
    let valid = || {
        records.iter().filter_map(|record| match record {
            Record::Event(Event::Validation { loss, .. }) => Some(*loss),
            _ => None,
        })
    };
    Losses {
        train_first: mean(train.get(..tenth).unwrap_or_default()),
        train_last: mean(train.get(train.len() - tenth..).unwrap_or_default()),
        valid_first: valid().next(),
        valid_last: valid().next_back(),
    }
}

fn as_update(record: &Record) -> Option<&Update> {
    match record {
        Record::Update(update) => Some(update),
        Record::Event(_) => None,
    }
}

fn read_records(path: &Path) -> Result<Vec<Record>> {
    let text = fs::read_to_string(path).map_err(io_error(path, "read"))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|e| Error::Record {
                path: path.to_path_buf(),
                line: Some(index + 1),
                expected: "a record of a training run",
                found: e.to_string(),
            })
        })
        .collect()
}
