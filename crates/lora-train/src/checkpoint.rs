//! The whole state of a run in one file, written atomically.
//!
//! A safetensors file: `adapter/NAME` are the factors, `optimizer/NAME.SLOT` the optimizer's
//! state, and the metadata key `nightshift` holds the rest as JSON.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::batch::Cursor;
use crate::engine::Plan;
use crate::{Error, Result, Tensors, tensors};

const METADATA: &str = "nightshift";
const ADAPTER: &str = "adapter/";
const OPTIMIZER: &str = "optimizer/";

/// Where a run stands, apart from its tensors. (There is no state of a random number generator:
/// whatever is drawn depends on the seed and on the place it is drawn for.)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Updates made or skipped; the schedule follows from it.
    pub(crate) step: u64,
    /// Updates the optimizer made.
    pub(crate) optimizer_step: u64,
    /// Rows those updates consumed.
    pub(crate) rows: u64,
    /// Where the next row comes from.
    pub(crate) cursor: Cursor,
    /// Length of `metrics.jsonl` at this step.
    pub(crate) metrics_bytes: u64,
    /// The lowest validation loss, and the step it was measured at.
    pub(crate) best: Option<(u64, f64)>,
    /// Validations since then.
    pub(crate) stale: usize,
    /// What must not change between the sessions of a run.
    pub(crate) identity: Identity,
}

/// What makes two runs the same run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// The configuration.
    pub(crate) config: serde_json::Value,
    /// Digest of the training rows and the validation rows.
    pub(crate) data: String,
    /// How the work was cut: otherwise sums would be formed in another order.
    pub(crate) plan: Plan,
}

/// A run at a step boundary.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    /// Everything but the tensors.
    pub(crate) position: Position,
    /// The factors.
    pub(crate) factors: Tensors,
    /// The optimizer's state.
    pub(crate) optimizer: Tensors,
}

impl Checkpoint {
    /// Writes the checkpoint into `folder` under the name of its step.
    pub(crate) fn save(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(format!("{:08}.safetensors", self.position.step));
        let factors = self.factors.iter().map(|(name, array)| (format!("{ADAPTER}{name}"), array));
        let state =
            self.optimizer.iter().map(|(name, array)| (format!("{OPTIMIZER}{name}"), array));
        let position = serde_json::to_string(&self.position).map_err(Error::Json)?;
        let metadata = HashMap::from([(METADATA.to_owned(), position)]);
        durable::write(&path, tensors::encode(factors.chain(state), metadata)?)?;
        Ok(path)
    }

    /// Reads a checkpoint.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let bad = |what: String| Error::BadTensors { path: path.to_owned(), what };
        let (all, metadata) = tensors::read(path)?;
        let position =
            metadata.get(METADATA).ok_or_else(|| bad(format!("no `{METADATA}` metadata")))?;
        let position = serde_json::from_str(position).map_err(|error| bad(error.to_string()))?;
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
        Ok(Self { position, factors, optimizer })
    }
}

/// The checkpoints in `folder`, oldest first; none if there is no such folder.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::Read { path: folder.to_owned(), source };
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let step = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        if let (Some(step), Some("safetensors")) = (step, path.extension().and_then(|e| e.to_str()))
        {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

impl Identity {
    /// What differs from `other`, one line each; keys that change nothing about the result are
    /// left out.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        /// Where the files are, what is reported and when to pause do not decide the outcome.
        const IRRELEVANT: [&str; 13] = [
            "model",
            "data",
            "adapter_path",
            "config",
            "train",
            "report_to",
            "project_name",
            "steps_per_report",
            "save_every",
            "clear_cache_threshold",
            "nightshift.memory_limit",
            "nightshift.time_budget",
            "nightshift.keep_checkpoints",
        ];
        let (mut then, mut now) = (Flat::new(), Flat::new());
        flatten("", &self.config, &mut then);
        flatten("", &other.config, &mut now);
        then.insert("(training data)".into(), self.data.as_str().into());
        now.insert("(training data)".into(), other.data.as_str().into());
        let absent = serde_json::Value::Null;
        let keys = then.keys().chain(now.keys().filter(|key| !then.contains_key(*key)));
        keys.filter(|key| !IRRELEVANT.contains(&key.as_str()))
            .map(|key| (key, then.get(key).unwrap_or(&absent), now.get(key).unwrap_or(&absent)))
            .filter(|(_, then, now)| then != now)
            .map(|(key, then, now)| format!("{key}: {then} -> {now}"))
            .collect()
    }
}

type Flat = std::collections::BTreeMap<String, serde_json::Value>;

/// Nested objects as one map with dotted keys.
fn flatten(prefix: &str, value: &serde_json::Value, into: &mut Flat) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&path, value, into);
            }
        }
        leaf => {
            into.insert(prefix.to_owned(), leaf.clone());
        }
    }
}
