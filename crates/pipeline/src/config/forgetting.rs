//! What a night measures of what a candidate has forgotten.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How forgetting is measured. The bounds are in the gate's policy, under the same key.
///
/// ```yaml
/// forgetting: { questions: 200, prompts: 200 }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ForgettingConfig {
    /// The number of everyday questions that are added to the exam, spread over their kinds; half are asked without a system
    /// prompt. Default 200: all of them. 0 for none.
    pub questions: usize,
    /// The number of neutral prompts on whose answers by the base model the candidate's predictions are compared with the
    /// base's. They are not used for replay. Default 200; 0 for none.
    pub prompts: usize,
    /// The maximum number of tokens of such an answer. Default 128.
    pub max_tokens: usize,
}

impl Default for ForgettingConfig {
    fn default() -> Self {
        Self { questions: 200, prompts: 200, max_tokens: 128 }
    }
}

impl ForgettingConfig {
    /// What is wrong with a value, if anything: the key, and what was expected and found.
    pub(super) fn problem(&self) -> Option<String> {
        let expected = "forgetting.max_tokens: expected at least 1, found 0";
        (self.max_tokens == 0).then(|| expected.to_owned())
    }
}
