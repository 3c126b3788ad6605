//! `lora_parameters`: size and strength of the adapter.

use serde::{Deserialize, Serialize};

/// The `lora_parameters` key.
///
/// The forward pass adds `scale * ((x A) B)`. `scale` is what counts, as in mlx-lm; `alpha` is
/// read because people bring it from PEFT, where the strength is `alpha / rank`: alone it gives
/// the scale, beside `scale` it must agree with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraParameters {
    /// Columns of `A`, rows of `B`.
    pub rank: usize,
    /// PEFT's strength times the rank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Chance that an input feature of the adapter is dropped in training.
    pub dropout: f64,
    /// Strength of the adapter; see [`strength`](Self::strength) for when it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// Paths of the adapted linear layers, relative to a decoder layer (`self_attn.q_proj`). Absent:
    /// every linear layer of the decoder layers.
    ///
    /// Embedding and output matrix are adapted if their whole names are among these, as mlx-lm has
    /// them: `model.embed_tokens` and `lm_head` of a Llama, with `language_model.` before them of a
    /// Gemma 4 or Qwen3.5. Where the two are one matrix it is the embedding, and the head has the
    /// update too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<String>>,
}

impl LoraParameters {
    /// mlx-lm's strength when nothing is said about it.
    pub const DEFAULT_SCALE: f64 = 20.0;

    /// The strength the adapter is trained and applied at: `scale`, else `alpha` over the rank
    /// (or its root, see [`Scaling`]), else [`DEFAULT_SCALE`](Self::DEFAULT_SCALE).
    pub fn strength(&self, scaling: Scaling) -> f64 {
        self.scale.or_else(|| self.alpha_strength(scaling)).unwrap_or(Self::DEFAULT_SCALE)
    }

    /// The strength that `alpha` asks for.
    pub fn alpha_strength(&self, scaling: Scaling) -> Option<f64> {
        self.alpha.map(|alpha| alpha / scaling.divisor(self.rank))
    }
}

impl Default for LoraParameters {
    fn default() -> Self {
        Self { rank: 8, alpha: None, dropout: 0.0, scale: None, keys: None }
    }
}

/// How `alpha` becomes a strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// `alpha / rank`.
    #[default]
    Standard,
    /// `alpha / sqrt(rank)` (rsLoRA): the gradient's size does not fall with the rank.
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
    pub fn formula(self) -> &'static str {
        match self {
            Self::Standard => "alpha/rank",
            Self::RankStabilized => "alpha/sqrt(rank)",
        }
    }
}
