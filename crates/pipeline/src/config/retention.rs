use serde::{Deserialize, Serialize};

/// What is kept of nights gone by. Reports, answers and verdicts always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Adapters, the youngest; the champion, its predecessor and the candidate stay in any case.
    /// Default 14.
    pub adapters: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self { adapters: 14 }
    }
}
