//! What is kept of earlier nights.

use lora_train::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Days;

/// What is kept of earlier nights. Reports and verdicts are always kept, and so are champion, previous champion and
/// candidate, unfinished nights and the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Retention {
    /// Number of adapters, the newest. Default 14.
    pub adapters: usize,
    /// The number of days for which chats that a server has recorded are kept, such as `90d`. Older files are deleted
    /// at the end of a night. Default: for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chats: Option<Days>,
    /// The age in days, such as `90d`, from which on rows, answers and other files of a night are deleted, and kept answers of
    /// models. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nights: Option<Days>,
    /// The size of the whole home, such as `50GB`, above which kept answers of models are deleted, then the files of the oldest
    /// nights, then the oldest adapters. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { adapters: 14, chats: None, nights: None, size: None }
    }
}
