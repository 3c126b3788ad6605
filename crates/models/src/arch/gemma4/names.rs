//! Names of a Gemma 4's tensors, in MLX's files and in Hugging Face's.

use super::shape::{EXPERT_DOWN, EXPERT_GATE, EXPERT_UP, Gemma4};
use crate::arch::config::Config;
use crate::arch::names::text_name;
use crate::checkpoint::Store;

/// Tensors that a layer which shares an earlier one's keys does not use.
const OF_KEYS: [&str; 3] = ["self_attn.k_proj.", "self_attn.v_proj.", "self_attn.k_norm."];
/// Hugging Face's names of the experts' weights, which do not end in `.weight`.
const FUSED_EXPERTS: &str = "experts.gate_up_proj";
const HF_EXPERT_DOWN: &str = ".experts.down_proj";

/// Brings the names of `store` into MLX's form, and drops tensors that the text model does not use.
pub(super) fn normalize(store: &mut Store, config: &Config, shape: &Gemma4) {
    store.rename(|name| own_name(name, config.root));
    for (index, layer) in shape.layers.iter().enumerate() {
        let prefix = format!("{}.", config.layer_prefix(index));
        if !layer.owns_keys() {
            store.retain(|name| {
                let path = name.strip_prefix(&prefix);
                !path.is_some_and(|path| OF_KEYS.iter().any(|key| path.starts_with(key)))
            });
        }
        if let Some(experts) = shape.experts {
            for path in [EXPERT_GATE, EXPERT_UP, EXPERT_DOWN] {
                for part in ["weight", "scales", "biases"] {
                    store.flatten(&format!("{prefix}{path}.{part}"), experts.count);
                }
            }
            let fused = format!("{prefix}{FUSED_EXPERTS}");
            store.flatten(&fused, experts.count);
            let halves = [EXPERT_GATE, EXPERT_UP].map(|path| format!("{prefix}{path}.weight"));
            store.split(&fused, halves, experts.count);
        }
    }
}

/// The name of a tensor in MLX's form, or `None` if it is not of the text model.
fn own_name(name: &str, root: &str) -> Option<String> {
    match name.strip_suffix(HF_EXPERT_DOWN) {
        Some(layer) => text_name(&format!("{layer}.{EXPERT_DOWN}.weight"), root),
        None => text_name(name, root),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_end_in_one() {
        let whole = "language_model.";
        for (root, name, text) in [
            (whole, "model.language_model.norm.weight", Some("language_model.model.norm.weight")),
            (
                whole,
                "model.language_model.layers.3.layer_scalar",
                Some("language_model.model.layers.3.layer_scalar"),
            ),
            (whole, "language_model.model.norm.weight", Some("language_model.model.norm.weight")),
            (whole, "model.vision_tower.patch.weight", None),
            (whole, "vision_tower.encoder.layers.0.mlp.up_proj.weight", None),
            (whole, "embed_vision.embedding_projection.weight", None),
            (whole, "model.embed_audio.embedding_projection.weight", None),
            (whole, "language_model.model.layers.0.mlp.up_proj.input_max", None),
            (whole, "stray.weight", Some("stray.weight")),
            ("", "model.norm.weight", Some("model.norm.weight")),
            ("", "model.layers.0.self_attn.rotary_emb.inv_freq", None),
        ] {
            assert_eq!(own_name(name, root).as_deref(), text, "{name}");
        }
    }
}
