//! The records of `metrics.jsonl`: how a run was planned, its updates and its validations.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use crate::config::Bytes;
use crate::engine::InputStorage;
use crate::preference::PreferenceMetrics;
use crate::{Error, Result};

/// One line of `metrics.jsonl`: an object with a `kind`, or an update, which has none.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Record {
    /// A plan or a validation.
    Event(Event),
    /// One optimizer update.
    Update(Update),
}

/// By hand, so that an error names the key that is wrong.
impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(input: D) -> std::result::Result<Self, D::Error> {
        let value = Value::deserialize(input)?;
        match value.get("kind") {
            Some(_) => Event::deserialize(value).map(Self::Event),
            None => Update::deserialize(value).map(Self::Update),
        }
        .map_err(de::Error::custom)
    }
}

impl Record {
    /// The update, if this is one.
    pub fn as_update(&self) -> Option<&Update> {
        match self {
            Self::Update(update) => Some(update),
            Self::Event(_) => None,
        }
    }
}

/// One optimizer update.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Update {
    /// Counted from 1.
    pub step: u64,
    /// Mean cross-entropy over the trained tokens of the update; of pairs the preference loss.
    pub loss: f64,
    /// The learning rate of the update.
    pub learning_rate: f64,
    /// Global norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Input tokens of all rows.
    pub processed_tokens: u64,
    /// Input tokens that were computed: a prefix shared by rows of a micro-batch counts once. 0 in
    /// files written before this field existed.
    #[serde(default)]
    pub computed_tokens: u64,
    /// Tokens with a loss.
    pub trained_tokens: u64,
    /// Duration of the update, without validation and saving.
    pub seconds: f64,
    /// Peak of MLX's memory since the run began.
    pub peak_memory_bytes: u64,
    /// Resident memory of the process after the update.
    pub rss_bytes: u64,
    /// Of an update on pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference: Option<PreferenceMetrics>,
    /// With `nightshift.kl`; not in `loss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<BaseDivergence>,
}

/// How far predictions are from those of the base model.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BaseDivergence {
    /// Mean of `KL(base || model)` over these tokens, in nats; of an update without any 0.
    pub mean: f64,
    /// The tokens; one of a prefix that several rows share counts in each of them.
    pub tokens: u64,
}

/// A record that is not an update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// Size and plan of the run, written at its start.
    #[non_exhaustive]
    Plan {
        /// Training rows or pairs.
        rows: u64,
        /// Optimizer updates of the whole run.
        updates: u64,
        /// Trained parameters.
        parameters: u64,
        /// Decoder layers with an adapter.
        layers: u64,
        /// Micro-batching and memory.
        #[serde(flatten)]
        work: WorkPlan,
    },
    /// The loss on the validation rows or pairs.
    #[non_exhaustive]
    Validation {
        /// Updates made before it; 0 for the untrained adapter.
        step: u64,
        /// Mean cross-entropy over the trained tokens, or the preference loss.
        loss: f64,
        /// Tokens with a loss.
        tokens: u64,
        /// Duration.
        seconds: f64,
        /// Of a validation on pairs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        preference: Option<PreferenceMetrics>,
    },
    /// How far the model has moved from the base model on replay rows that are not trained
    /// (`nightshift.retention`).
    #[non_exhaustive]
    Retention {
        /// Updates made before it; 0 for the adapter that the run starts with.
        step: u64,
        /// The divergence.
        kl: BaseDivergence,
        /// Duration.
        seconds: f64,
    },
    /// The reference model's log-probabilities of the answers that the run takes, before the first update.
    #[non_exhaustive]
    Reference {
        /// Chosen and rejected answers: of the pairs that the updates take, and of all for validation.
        answers: u64,
        /// Whether the reference is the base model with the adapter that the run starts from.
        adapter: bool,
        /// Tokens that were computed; 0 if the log-probabilities were on disk.
        computed_tokens: u64,
        /// Duration.
        seconds: f64,
    },
}

/// How an update is split into micro-batches, and what is held in memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkPlan {
    /// Threads that compute micro-batches in parallel.
    pub lanes: u64,
    /// Tokens of a micro-batch, at most; a longer row is a micro-batch of its own.
    pub tokens_per_step: u64,
    /// Layers whose weights are dequantized in memory.
    pub dequantized_layers: u64,
    /// Layers whose weights are in memory as they are in the checkpoint.
    pub packed_layers: u64,
    /// Layers whose weights are read from the checkpoint at each use.
    pub streamed_layers: u64,
    /// Where layer inputs are kept between forward and backward pass.
    pub(crate) inputs: InputStorage,
    /// Intermediates that each lane keeps from the forward pass instead of recomputing them.
    pub kept_bytes: u64,
    /// Expected peak of MLX's memory.
    pub estimated_memory_bytes: u64,
}

impl fmt::Display for WorkPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lanes, tokens_per_step, kept_bytes, estimated_memory_bytes, .. } = *self;
        write!(f, "{lanes} lanes of {tokens_per_step} tokens; layers:")?;
        for (count, residency) in [
            (self.dequantized_layers, "dequantized"),
            (self.packed_layers, "packed"),
            (self.streamed_layers, "streamed"),
        ] {
            if count > 0 {
                write!(f, " {count} {residency},")?;
            }
        }
        let storage = match self.inputs {
            InputStorage::Memory => "memory",
            InputStorage::File => "a file",
        };
        let (kept, expected) = (Bytes(kept_bytes), Bytes(estimated_memory_bytes));
        write!(f, " inputs in {storage}, {kept} kept a lane; {expected} expected at the peak")
    }
}

/// All records of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics {
    /// In the order of the file.
    pub records: Vec<Record>,
}

impl Metrics {
    /// Reads a `metrics.jsonl`.
    ///
    /// # Errors
    /// [`Error::Read`] if the file cannot be read, [`Error::Metrics`] with the number of the first
    /// line that is not a record.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let record = |(index, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|error| Error::Metrics {
                path: path.to_owned(),
                line: index + 1,
                found: error.to_string(),
            })
        };
        let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
        Ok(Self { records: lines.map(record).collect::<Result<_>>()? })
    }

    /// The last plan of the run: a run that is resumed under a lower memory limit has another one from there on.
    pub fn plan(&self) -> Option<&WorkPlan> {
        self.records.iter().rev().find_map(|record| match record {
            Record::Event(Event::Plan { work, .. }) => Some(work),
            _ => None,
        })
    }

    /// The updates, in order.
    pub fn updates(&self) -> impl DoubleEndedIterator<Item = &Update> {
        self.records.iter().filter_map(Record::as_update)
    }

    /// Step and divergence from the base model of each measurement for `nightshift.retention`, in order.
    pub fn retentions(&self) -> impl DoubleEndedIterator<Item = (u64, BaseDivergence)> {
        self.records.iter().filter_map(|record| match record {
            Record::Event(Event::Retention { step, kl, .. }) => Some((*step, *kl)),
            _ => None,
        })
    }

    /// Step and loss of each validation, in order.
    pub fn validations(&self) -> impl DoubleEndedIterator<Item = (u64, f64)> {
        self.records.iter().filter_map(|record| match record {
            Record::Event(Event::Validation { step, loss, .. }) => Some((*step, *loss)),
            _ => None,
        })
    }
}
