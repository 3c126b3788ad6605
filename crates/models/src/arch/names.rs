//! Names of tensors that several families share: paths below a layer, and parts of larger models.

pub(super) const Q: &str = "self_attn.q_proj";
pub(super) const K: &str = "self_attn.k_proj";
pub(super) const V: &str = "self_attn.v_proj";
pub(super) const O: &str = "self_attn.o_proj";
pub(super) const Q_NORM: &str = "self_attn.q_norm";
pub(super) const K_NORM: &str = "self_attn.k_norm";
pub(super) const Q_BIAS: &str = "self_attn.q_proj.bias";
pub(super) const K_BIAS: &str = "self_attn.k_proj.bias";
pub(super) const V_BIAS: &str = "self_attn.v_proj.bias";
pub(super) const PRE_MLP_NORM: &str = "pre_feedforward_layernorm";
pub(super) const POST_MLP_NORM: &str = "post_feedforward_layernorm";
pub(super) use crate::nn::pre_norm::{INPUT_NORM, POST_ATTENTION_NORM};

/// Tensors of the vision and audio parts.
const OTHER_MODALITIES: [&str; 6] = [
    "vision_tower.",
    "multi_modal_projector.",
    "audio_tower.",
    "embed_audio.",
    "embed_vision.",
    "vision_embedder.",
];
/// Tensors from converters that are not weights.
const LEFTOVERS: [&str; 5] =
    ["self_attn.rotary_emb", "input_max", "input_min", "output_max", "output_min"];

/// The name of a tensor of a Gemma in MLX's form, or `None` if it is not of the text model. Names start with
/// `language_model.model.` in MLX's files and with `model.language_model.` in Hugging Face's; `root` is
/// empty for a model of text alone.
pub(super) fn text_name(name: &str, root: &str) -> Option<String> {
    if LEFTOVERS.iter().any(|part| name.contains(part)) {
        return None;
    }
    if root.is_empty() {
        return Some(name.to_owned());
    }
    let bare = name.strip_prefix("model.").unwrap_or(name);
    if OTHER_MODALITIES.iter().any(|tower| bare.starts_with(tower)) {
        return None;
    }
    match name.strip_prefix("model.language_model.") {
        Some(path) => Some(format!("language_model.model.{path}")),
        None => Some(bare.to_owned()),
    }
}
