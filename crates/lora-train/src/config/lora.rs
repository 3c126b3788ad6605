//! `lora_parameters`: rank, scale and targets of the adapter.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The `lora_parameters` key.
///
/// The adapter adds `scale * ((x A) B)` to a linear layer. mlx-lm reads `scale`. `alpha` is PEFT's
/// key, where the scale is `alpha / rank`: it determines the scale if there is no `scale`, and must
/// agree with it otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LoraParameters {
    /// The number of columns of `A` and of rows of `B`.
    pub rank: usize,
    /// PEFT's key: without `scale`, the factor is `alpha` divided as `nightshift.scaling` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// The probability that an input feature of the adapter is dropped in training.
    pub dropout: f64,
    /// The factor of the adapter. Absent: what `alpha` gives, or else 20, as in mlx-lm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// Paths of the adapted linear layers, relative to a decoder layer (`self_attn.q_proj`). Absent:
    /// every linear layer of the decoder layers.
    ///
    /// Embedding and output matrix are adapted if their full names are listed, as in mlx-lm:
    /// `model.embed_tokens` and `lm_head` of a Llama, with the prefix `language_model.` of a Gemma 4
    /// or Qwen3.5. If they are tied, only the embedding's name is valid, and its update also applies
    /// to the output matrix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<String>>,
}

impl LoraParameters {
    /// The scale if neither `scale` nor `alpha` is given, as in mlx-lm.
    pub const DEFAULT_SCALE: f64 = 20.0;

    /// The factor that the adapter is trained and applied with: `scale`, else `alpha` divided as
    /// [`Scaling`] says, else [`DEFAULT_SCALE`](Self::DEFAULT_SCALE).
    pub fn effective_scale(&self, scaling: Scaling) -> f64 {
        self.scale.or_else(|| self.alpha_scale(scaling)).unwrap_or(Self::DEFAULT_SCALE)
    }

    /// The scale that `alpha` asks for.
    pub(crate) fn alpha_scale(&self, scaling: Scaling) -> Option<f64> {
        self.alpha.map(|alpha| alpha / scaling.divisor(self.rank))
    }
}

impl Default for LoraParameters {
    fn default() -> Self {
        Self { rank: 8, alpha: None, dropout: 0.0, scale: None, keys: None }
    }
}

/// How `alpha` becomes a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scaling {
    /// `alpha / rank`.
    #[default]
    Standard,
    /// `alpha / sqrt(rank)` (rsLoRA, arXiv:2312.03732): gradients do not shrink with the rank.
    RankStabilized,
}

impl Scaling {
    fn divisor(self, rank: usize) -> f64 {
        match self {
            Self::Standard => rank as f64,
            Self::RankStabilized => (rank as f64).sqrt(),
        }
    }

    /// The formula, for messages.
    pub(crate) fn formula(self) -> &'static str {
        match self {
            Self::Standard => "alpha/rank",
            Self::RankStabilized => "alpha/sqrt(rank)",
        }
    }
}
