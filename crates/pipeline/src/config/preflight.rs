//! What a preflight expects and accepts.

use std::collections::BTreeMap;

use lora_train::Bytes;
use lora_train::lint::LintCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a preflight expects and accepts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PreflightConfig {
    /// Warnings about the training recipes that are intended, by name, each with the reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub allow: BTreeMap<LintCode, String>,
    /// The most memory that training may take. Default: `budgets.memory`, or else what the device has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<Bytes>,
}

impl PreflightConfig {
    /// What is wrong with a value.
    pub(super) fn problem(&self) -> Option<String> {
        let (code, _) = self.allow.iter().find(|(_, reason)| reason.trim().is_empty())?;
        Some(format!("preflight.allow.{code}: expected the reason, found an empty text"))
    }
}
