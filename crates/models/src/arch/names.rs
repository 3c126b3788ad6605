//! Paths of tensors below their layer that several families share.

pub(crate) const Q: &str = "self_attn.q_proj";
pub(crate) const K: &str = "self_attn.k_proj";
pub(crate) const V: &str = "self_attn.v_proj";
pub(crate) const O: &str = "self_attn.o_proj";
pub(crate) const Q_NORM: &str = "self_attn.q_norm";
pub(crate) const K_NORM: &str = "self_attn.k_norm";
pub(crate) const INPUT_NORM: &str = "input_layernorm";
pub(crate) const POST_ATTENTION_NORM: &str = "post_attention_layernorm";
