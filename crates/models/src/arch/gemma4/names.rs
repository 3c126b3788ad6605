//! Names of a Gemma 4's tensors, in MLX's files and in Hugging Face's.

use super::shape::{EXPERTS, Gemma4};
use crate::arch::config::Config;
use crate::arch::experts;
use crate::arch::names::text_name;
use crate::checkpoint::Store;

/// Tensors that a layer which shares an earlier one's keys does not use.
const OF_KEYS: [&str; 3] = ["self_attn.k_proj.", "self_attn.v_proj.", "self_attn.k_norm."];

/// Brings the names of `store` into MLX's form, and drops tensors that the text model does not use.
pub(super) fn normalize(store: &mut Store, config: &Config, shape: &Gemma4) {
    store.rename(|name| text_name(name, config.root));
    for (index, layer) in shape.layers.iter().enumerate() {
        let layer_prefix = config.layer_prefix(index);
        if !layer.owns_keys() {
            let prefix = format!("{layer_prefix}.");
            store.retain(|name| {
                let path = name.strip_prefix(&prefix);
                !path.is_some_and(|path| OF_KEYS.iter().any(|key| path.starts_with(key)))
            });
        }
        if let Some(shape) = shape.experts {
            experts::normalize(store, &layer_prefix, shape.count, EXPERTS, "experts");
        }
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
            assert_eq!(text_name(name, root).as_deref(), text, "{name}");
        }
    }
}
