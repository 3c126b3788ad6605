//! Names and layouts of a Qwen3.5's tensors, in MLX's files and in Hugging Face's.

use super::shape::{CONVOLUTION, INPUT_NORM, K_NORM, POST_ATTENTION_NORM, Q_NORM, Qwen35};
use crate::arch::config::{Config, FINAL_NORM};
use crate::arch::experts;
use crate::checkpoint::Store;

/// Tensors of the vision tower.
const VISION: [&str; 4] = ["vision_tower", "visual.", "model.visual", "language_model.visual"];
/// Layers for multi-token prediction.
const MULTI_TOKEN_PREDICTION: &str = "mtp.";

/// Norms of which Hugging Face's files store `weight - 1`. The norm of the gated delta rule is not one.
const CENTRED: [&str; 4] = [INPUT_NORM, POST_ATTENTION_NORM, Q_NORM, K_NORM];

/// Brings names and layouts of `store` into MLX's form, and drops tensors that the text model does not
/// use. Only the layout of the convolutions tells Hugging Face's files from MLX's.
pub(super) fn normalize(store: &mut Store, config: &Config, model: &Qwen35) {
    store.rename(text_name);
    for layer in 0..config.num_layers {
        experts::normalize_sparse(store, &config.layer_prefix(layer), model.feed_forward);
    }
    let kernels: Vec<String> = (0..config.num_layers)
        .map(|layer| format!("{}.{CONVOLUTION}.weight", config.layer_prefix(layer)))
        .filter(|name| {
            let shape = store.get(name).map(|entry| entry.shape.as_slice());
            matches!(shape, Some(&[_, 1, taps]) if taps != 1)
        })
        .collect();
    if kernels.is_empty() {
        return;
    }
    // With one channel in and out, swapping the last two axes moves nothing.
    kernels.iter().for_each(|name| store.swap_last_axes(name));
    store.add_one(|name| {
        let name = name.strip_suffix(".weight").unwrap_or_default();
        CENTRED.iter().any(|norm| name.ends_with(norm)) || name.ends_with(FINAL_NORM)
    });
}

/// The name of a tensor in MLX's form, or `None` if it is not of the text model. Names start with
/// `language_model.` in MLX's files, with `model.language_model.` in Hugging Face's, and with neither in
/// files of a text model.
fn text_name(name: &str) -> Option<String> {
    if name.contains(MULTI_TOKEN_PREDICTION) || VISION.iter().any(|other| name.starts_with(other)) {
        return None;
    }
    Some(match name.strip_prefix("model.language_model.") {
        Some(path) => format!("language_model.model.{path}"),
        None if name.starts_with("language_model.") => name.to_owned(),
        None => format!("language_model.{name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_layouts_end_in_one() {
        for (name, text) in [
            ("model.language_model.norm.weight", Some("language_model.model.norm.weight")),
            ("language_model.model.norm.weight", Some("language_model.model.norm.weight")),
            ("model.norm.weight", Some("language_model.model.norm.weight")),
            ("lm_head.weight", Some("language_model.lm_head.weight")),
            (
                "model.language_model.layers.0.linear_attn.A_log",
                Some("language_model.model.layers.0.linear_attn.A_log"),
            ),
            ("model.visual.blocks.0.attn.qkv.weight", None),
            ("vision_tower.blocks.0.attn.qkv.weight", None),
            ("mtp.layers.0.mlp.up_proj.weight", None),
            ("model.mtp.fc.weight", None),
        ] {
            assert_eq!(text_name(name).as_deref(), text, "{name}");
        }
    }
}
