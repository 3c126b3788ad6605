//! How the tensors of a Qwen3.5 are called and stored, in MLX's files and in Hugging Face's.

use crate::checkpoint::store::Store;
use crate::arch::config::Config;

use super::shape::{CONVOLUTION, INPUT_NORM, K_NORM, POST_ATTENTION_NORM, Q_NORM};

/// What is not of the text model: the eyes, and the layer that predicts a token further ahead.
const OTHERS: [&str; 4] = ["vision_tower", "visual.", "model.visual", "language_model.visual"];
const FURTHER_AHEAD: &str = "mtp.";

/// Norms whose weights Hugging Face's files hold less one. That of the gated delta rule is none.
const CENTRED: [&str; 4] = [INPUT_NORM, POST_ATTENTION_NORM, Q_NORM, K_NORM];

/// Brings names and layouts of `store` into MLX's form, and drops what the text model has no use
/// for. The layout of the convolutions is all that tells a file of Hugging Face's from one of MLX's.
pub(crate) fn rename(store: &mut Store, config: &Config) {
    store.rename(text_name);
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
        CENTRED.iter().any(|norm| name.ends_with(norm)) || name.ends_with("model.norm")
    });
}

/// The name of a text tensor in MLX's form, or `None` if it is none. A file of MLX's begins its names
/// with `language_model.`, one of Hugging Face's with `model.language_model.`; one of the text model
/// alone has neither.
fn text_name(name: &str) -> Option<String> {
    if name.contains(FURTHER_AHEAD) || OTHERS.iter().any(|other| name.starts_with(other)) {
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
