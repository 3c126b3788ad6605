//! Which settings determine the result of a run.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::TrainConfig;
use crate::{Error, Result};

/// Settings that do not change the adapter: paths, what is reported, measured and saved, limits of time and
/// memory, and keys of other programs that have no effect here. All other settings determine the result.
const WITHOUT_EFFECT: [&str; 20] = [
    "model",
    "data",
    "adapter_path",
    "config",
    "train",
    "test",
    "test_batches",
    "report_to",
    "project_name",
    "steps_per_report",
    "save_every",
    "grad_checkpoint",
    "clear_cache_threshold",
    "trust_remote_code",
    "precompute_ref_log_probs",
    "reward_scaling",
    "nightshift.memory_limit",
    "nightshift.time_budget",
    "nightshift.keep_checkpoints",
    "nightshift.reference_cache",
];

/// Settings that each rank of a run has for itself.
const OF_A_MACHINE: [&str; 8] = [
    "model",
    "data",
    "adapter_path",
    "nightshift.memory_limit",
    "nightshift.time_budget",
    "nightshift.reference_cache",
    "nightshift.lanes",
    "nightshift.max_tokens_per_step",
];

/// The file of initial weights, which counts by its content.
const INITIAL: &str = "resume_adapter_file";

impl TrainConfig {
    /// The settings that determine the adapter of a run on the same model and rows, by dotted key: a part of
    /// the key of whatever is kept of its result. `resume_adapter_file` has the digest of the file as its value.
    ///
    /// # Errors
    /// If `resume_adapter_file` cannot be read.
    pub fn determining(&self) -> Result<BTreeMap<String, Value>> {
        Ok(determining(&self.by_content()?))
    }

    /// All settings, with the digest of `resume_adapter_file` in place of its path.
    pub(crate) fn by_content(&self) -> Result<Value> {
        let mut settings = serde_json::to_value(self).map_err(Error::Json)?;
        if let Some(path) = &self.resume_adapter_file {
            settings[INITIAL] = durable::sha256_file(path)?.to_string().into();
        }
        Ok(settings)
    }
}

/// Removes the settings that do not change the result from those of an `adapter_config.json`: runs with the same
/// result then write the same file.
pub fn remove_without_effect(settings: &mut Map<String, Value>) {
    for key in WITHOUT_EFFECT.into_iter().chain([INITIAL]) {
        match key.split_once('.') {
            None => drop(settings.shift_remove(key)),
            Some((outer, inner)) => {
                let inside = settings.get_mut(outer).and_then(Value::as_object_mut);
                inside.and_then(|inside| inside.shift_remove(inner));
            }
        }
    }
}

/// The settings that determine the result, by dotted key.
pub(crate) fn determining(settings: &Value) -> BTreeMap<String, Value> {
    let mut all = by_key(settings);
    all.retain(|key, _| !WITHOUT_EFFECT.contains(&key.as_str()));
    all
}

/// The settings that all ranks of a run have alike, by dotted key: all but paths and those of a machine.
pub(crate) fn shared_by_ranks(settings: &Value) -> BTreeMap<String, Value> {
    let mut all = by_key(settings);
    all.retain(|key, _| !OF_A_MACHINE.contains(&key.as_str()));
    all
}

fn by_key(settings: &Value) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    flatten("", settings, &mut all);
    all
}

/// Nested objects as one map with dotted keys.
fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
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
