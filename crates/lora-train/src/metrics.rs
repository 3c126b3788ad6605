//! The records of `metrics.jsonl`, and the memory figures in them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::config::Bytes;
pub use crate::engine::InputPlace;

/// One line of `metrics.jsonl`.
///
/// An update has no `kind`: it is what the file is about. Everything else names its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Record {
    /// Anything but an update.
    Event(Event),
    /// One optimizer update.
    Update(Update),
}

impl Record {
    /// The update, if it is one.
    pub fn as_update(&self) -> Option<&Update> {
        match self {
            Self::Update(update) => Some(update),
            Self::Event(_) => None,
        }
    }
}

/// One optimizer update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// Counted from 1.
    pub step: u64,
    /// Mean over the trained tokens of the update.
    pub loss: f64,
    /// The learning rate of the update.
    pub learning_rate: f64,
    /// Global norm of the gradients, before clipping.
    pub grad_norm: f64,
    /// Tokens that went through the model: those of all rows.
    pub processed_tokens: u64,
    /// Tokens that had to be computed for it: what rows of a micro-batch begin with alike counts
    /// once. Zero in records of versions that did not tell.
    #[serde(default)]
    pub computed_tokens: u64,
    /// Tokens that were predicted and scored.
    pub trained_tokens: u64,
    /// How long the update took, without validation or saving.
    pub seconds: f64,
    /// The most that MLX held at once since the run began.
    pub peak_memory_bytes: u64,
    /// The process's resident memory after the update.
    pub rss_bytes: u64,
}

/// A line that is no update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// How the run will be done.
    Plan {
        /// Rows that are trained on.
        rows: u64,
        /// Optimizer updates of the run.
        updates: u64,
        /// Trained parameters.
        parameters: u64,
        /// Adapted decoder layers.
        layers: u64,
        /// How the work is cut, and what of it is in memory.
        #[serde(flatten)]
        work: WorkPlan,
    },
    /// The loss on rows that are not trained on.
    Validation {
        /// Updates made before it; 0 is the untrained adapter.
        step: u64,
        /// Mean over the trained tokens.
        loss: f64,
        /// Tokens that were scored.
        tokens: u64,
        /// How long it took.
        seconds: f64,
    },
}

/// How the work of an update is cut, and what of it is in memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkPlan {
    /// Threads that share an update.
    pub lanes: u64,
    /// Most tokens of a micro-batch, or as many as the longest row has.
    pub tokens_per_step: u64,
    /// Layers whose weights are in memory ready for use.
    pub dequantized_layers: u64,
    /// Layers whose weights are in memory as in the checkpoint.
    pub packed_layers: u64,
    /// Layers whose weights are read from the checkpoint each time.
    pub streamed_layers: u64,
    /// Where what enters each layer waits for the backward pass.
    pub inputs: InputPlace,
    /// What a lane may keep from the forward pass, instead of computing it again.
    pub kept_bytes: u64,
    /// The most MLX is expected to hold at once.
    pub estimated_memory_bytes: u64,
}

impl fmt::Display for WorkPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lanes, tokens_per_step, kept_bytes, estimated_memory_bytes, .. } = *self;
        write!(f, "{lanes} lanes of {tokens_per_step} tokens; layers:")?;
        for (count, held) in [
            (self.dequantized_layers, "dequantized"),
            (self.packed_layers, "packed"),
            (self.streamed_layers, "streamed"),
        ] {
            if count > 0 {
                write!(f, " {count} {held},")?;
            }
        }
        let place = match self.inputs {
            InputPlace::Memory => "memory",
            InputPlace::File => "a file",
        };
        let (kept, expected) = (Bytes(kept_bytes), Bytes(estimated_memory_bytes));
        write!(f, " inputs in {place}, {kept} kept a lane; {expected} expected at the peak")
    }
}

/// Resident memory of this process in bytes; `None` where the system does not tell.
pub fn resident_memory() -> Option<u64> {
    use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

    let this = sysinfo::get_current_pid().ok()?;
    let mut system = System::new().ok()?;
    let wanted = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[this]), false, wanted);
    system.process(this).map(|process| process.memory())
}

/// Memory of the machine in bytes; `None` where the system does not tell.
pub fn machine_memory() -> Option<u64> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    Some(system.total_memory())
}

/// The most that MLX held at once since the last [`reset_peak_memory`], in bytes.
pub fn peak_memory() -> Result<u64> {
    Ok(mlx_rs::memory::peak_memory()? as u64)
}

/// Makes [`peak_memory`] begin anew from what MLX holds now.
pub fn reset_peak_memory() -> Result<()> {
    Ok(mlx_rs::memory::reset_peak_memory()?)
}
