//! What a night does if nothing has changed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a night does if rows, model, recipes and exam are those of an earlier night: `skip` or `next_seed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenUnchanged {
    /// It ends at once: the same training would give the same adapter.
    #[default]
    Skip,
    /// It trains with the next seed: the recipe's, plus the number of earlier nights on the same inputs.
    NextSeed,
}
