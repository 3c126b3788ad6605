//! The records of `metrics.jsonl`, and the memory figures in them.

use serde::{Deserialize, Serialize};

use crate::Result;

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
    /// Tokens that went through the model.
    pub processed_tokens: u64,
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
        /// Threads that share an update.
        lanes: u64,
        /// The most MLX is expected to hold at once, where it can be told.
        #[serde(skip_serializing_if = "Option::is_none")]
        estimated_memory_bytes: Option<u64>,
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
