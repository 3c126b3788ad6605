//! Training checkpoints: the whole state of a run in one safetensors file, written atomically.
//!
//! The tensors `adapter/NAME` are the LoRA factors, `optimizer/NAME.SLOT` the optimizer's state, and
//! the metadata key `nightshift` holds everything else as JSON.

mod seal;

use std::path::{Path, PathBuf};

use mlx_rs::Array;
use models::train_support::write_safetensors;
use serde::{Deserialize, Serialize};

use crate::batch::Cursor;
use crate::best::Measured;
use crate::config::determining;
use crate::engine::Plan;
use crate::{Error, Result, Tensors, tensors};

pub use seal::{remove_damaged, seal};

const METADATA: &str = "nightshift";
const ADAPTER: &str = "adapter/";
const OPTIMIZER: &str = "optimizer/";

/// Progress of a run, without its tensors. There is no state of a random number generator: every
/// random value depends only on the seed and on what it is drawn for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrainerState {
    /// Updates made or skipped; determines the learning rate.
    pub(crate) step: u64,
    /// Updates the optimizer made.
    pub(crate) optimizer_step: u64,
    /// Rows these updates consumed.
    pub(crate) rows: u64,
    /// Position of the next row in the data.
    pub(crate) cursor: Cursor,
    /// Length of `metrics.jsonl` at this step.
    pub(crate) metrics_bytes: u64,
    /// The best adapter so far.
    pub(crate) best: Option<Measured>,
    /// Validations since then.
    pub(crate) stale: usize,
    /// What must stay the same for the run to be resumed.
    pub(crate) identity: RunIdentity,
}

/// What determines the result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunIdentity {
    /// The configuration, with the digest of `resume_adapter_file` in place of its path.
    pub(crate) config: serde_json::Value,
    /// Digest of the training and validation rows, and of those for `nightshift.retention`.
    pub(crate) data: String,
    /// Determines the order of sums, hence their rounding.
    pub(crate) plan: Plan,
}

/// A run between two updates.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) state: TrainerState,
    /// The LoRA factors.
    pub(crate) factors: Tensors,
    /// The optimizer's state.
    pub(crate) optimizer: Tensors,
}

impl Checkpoint {
    /// Writes the checkpoint to `folder/STEP.safetensors`.
    pub(crate) fn save(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(format!("{:08}.safetensors", self.state.step));
        let named = |prefix: &'static str, tensors: &Tensors| -> Vec<(String, Array)> {
            let named =
                tensors.iter().map(|(name, array)| (format!("{prefix}{name}"), array.clone()));
            named.collect()
        };
        let tensors = [named(ADAPTER, &self.factors), named(OPTIMIZER, &self.optimizer)].concat();
        let state = serde_json::to_string(&self.state).map_err(Error::Json)?;
        write_safetensors(&path, &[(METADATA, &state)], &tensors)?;
        Ok(path)
    }

    /// Reads a checkpoint.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let bad = |what: String| Error::BadTensors { path: path.to_owned(), what };
        let (all, metadata) = tensors::read(path)?;
        let state =
            metadata.get(METADATA).ok_or_else(|| bad(format!("no `{METADATA}` metadata")))?;
        let state = serde_json::from_str(state).map_err(|error| bad(error.to_string()))?;
        let (mut factors, mut optimizer) = (Tensors::new(), Tensors::new());
        for (name, array) in all {
            if let Some(name) = name.strip_prefix(ADAPTER) {
                factors.insert(name.to_owned(), array);
            } else if let Some(name) = name.strip_prefix(OPTIMIZER) {
                optimizer.insert(name.to_owned(), array);
            } else {
                return Err(bad(format!("`{name}`: expected no such tensor")));
            }
        }
        Ok(Self { state, factors, optimizer })
    }
}

/// Whether there is no checkpoint in `folder`, or no such folder.
///
/// # Errors
/// [`Error::Read`] if the folder cannot be read.
pub fn is_empty(folder: impl AsRef<Path>) -> Result<bool> {
    Ok(list(folder.as_ref())?.is_empty())
}

/// The checkpoints in `folder`, oldest first; none if there is no such folder.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let step = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    let mut found = files(folder, "safetensors")?;
    found.retain(|path| step(path).is_some());
    found.sort_by_key(step);
    Ok(found)
}

/// The files in `folder` with this extension, in no particular order.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::Read { path: folder.to_owned(), source };
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let paths = entries.map(|entry| Ok(entry.map_err(failed)?.path()));
    let mut paths = paths.collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    Ok(paths)
}

impl RunIdentity {
    /// What differs from `other`, as `key: self -> other`, of what determines the result of a run.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let (mut then, mut now) = (determining(&self.config), determining(&other.config));
        then.insert("(training data)".into(), self.data.as_str().into());
        now.insert("(training data)".into(), other.data.as_str().into());
        let absent = serde_json::Value::Null;
        let keys = then.keys().chain(now.keys().filter(|key| !then.contains_key(*key)));
        keys.map(|key| (key, then.get(key).unwrap_or(&absent), now.get(key).unwrap_or(&absent)))
            .filter(|(_, then, now)| then != now)
            .map(|(key, then, now)| format!("{key}: {then} -> {now}"))
            .collect()
    }
}
