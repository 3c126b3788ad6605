//! What is kept of earlier nights.

use serde::{Deserialize, Serialize};

use super::Days;

/// What is kept of earlier nights. Reports, answers and verdicts are always kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Retention {
    /// Number of adapters, the newest. Champion, previous champion and candidate are always kept.
    /// Default 14.
    pub adapters: usize,
    /// The number of days for which chats that a server has recorded are kept, such as `90d`. Older files are deleted
    /// at the end of a night. Default: for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chats: Option<Days>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { adapters: 14, chats: None }
    }
}
