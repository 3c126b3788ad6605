//! Paths of tensors below their layer that several families share.

pub(super) const Q: &str = "self_attn.q_proj";
pub(super) const K: &str = "self_attn.k_proj";
pub(super) const V: &str = "self_attn.v_proj";
pub(super) const O: &str = "self_attn.o_proj";
pub(super) const Q_NORM: &str = "self_attn.q_norm";
pub(super) const K_NORM: &str = "self_attn.k_norm";
pub(super) use crate::nn::pre_norm::{INPUT_NORM, POST_ATTENTION_NORM};
