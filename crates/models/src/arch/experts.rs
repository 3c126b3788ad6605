//! Experts: the keys of Qwen3 MoE and Qwen3.5 MoE in `config.json`, and names and layouts of every family's tensors in MLX's
//! files and in Hugging Face's.

use serde::Deserialize;

use super::config_file::ConfigFile;
use crate::Result;
use crate::checkpoint::Store;
use crate::nn::{FeedForward, MlpPaths, SparseShape, sparse_mlp::EXPERTS};

/// The keys of `config.json` about experts. Without experts, as in a dense model, the others mean nothing.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ExpertKeys {
    pub num_experts: usize,
    num_experts_per_tok: usize,
    moe_intermediate_size: usize,
    shared_expert_intermediate_size: usize,
    norm_topk_prob: Option<bool>,
    decoder_sparse_step: Option<usize>,
    mlp_only_layers: Vec<usize>,
}

impl ExpertKeys {
    /// Sizes of the experts. `normalized` is what a file without `norm_topk_prob` means.
    pub fn shape<K>(&self, file: &ConfigFile<'_, K>, normalized: bool) -> Result<SparseShape> {
        let count = file.size("num_experts", self.num_experts)?;
        let shared = Some(self.shared_expert_intermediate_size).filter(|&width| width > 0);
        Ok(SparseShape {
            count,
            chosen: file.size_to(count, "num_experts_per_tok", self.num_experts_per_tok)?,
            intermediate: file.size("moe_intermediate_size", self.moe_intermediate_size)?,
            normalized: self.norm_topk_prob.unwrap_or(normalized),
            shared: shared
                .map(|width| file.size("shared_expert_intermediate_size", width))
                .transpose()?,
        })
    }

    /// Whether this layer has experts, in a model that has any.
    pub fn in_layer<K>(&self, file: &ConfigFile<'_, K>, layer: usize) -> Result<bool> {
        let step = file.size("decoder_sparse_step", self.decoder_sparse_step.unwrap_or(1))?;
        Ok((layer + 1).is_multiple_of(step) && !self.mlp_only_layers.contains(&layer))
    }
}

/// Brings what follows the mixer of the layer below `prefix` into MLX's form, if it is experts.
pub(super) fn normalize_sparse(store: &mut Store, prefix: &str, feed_forward: FeedForward) {
    if let FeedForward::Sparse(shape) = feed_forward {
        normalize(store, prefix, shape.count, EXPERTS, "mlp.experts");
    }
}

/// Brings the experts of the layer below `prefix` into MLX's form: one matrix each for gate, up and down at the paths `own`, with
/// the experts in the rows. In Hugging Face's files they are below `theirs`.
pub(super) fn normalize(
    store: &mut Store,
    prefix: &str,
    count: usize,
    own: MlpPaths,
    theirs: &str,
) {
    let weight = |path: &str| format!("{prefix}.{path}.weight");
    for path in [own.gate, own.up, own.down] {
        // Older files have a tensor for each expert.
        let module = path.rsplit('.').next().unwrap_or(path);
        let each = |expert: usize| format!("{prefix}.{theirs}.{expert}.{module}.weight");
        store.stack(&(0..count).map(each).collect::<Vec<_>>(), weight(path));
        for part in ["weight", "scales", "biases"] {
            store.flatten(&format!("{prefix}.{path}.{part}"), count);
        }
    }
    // transformers 5 writes all experts' matrices as one tensor, gate and up together.
    let [fused, down] =
        ["gate_up_proj", "down_proj"].map(|module| format!("{prefix}.{theirs}.{module}"));
    store.flatten(&fused, count);
    store.flatten(&down, count);
    store.split(&fused, [weight(own.gate), weight(own.up)], count);
    store.move_to(&down, weight(own.down));
}
