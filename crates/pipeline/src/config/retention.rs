//! What is kept of earlier nights.

use serde::{Deserialize, Serialize};

/// What is kept of earlier nights. Reports, answers and verdicts are always kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Retention {
    /// Number of adapters, the newest. Champion, previous champion and candidate are always kept.
    /// Default 14.
    pub adapters: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self { adapters: 14 }
    }
}
