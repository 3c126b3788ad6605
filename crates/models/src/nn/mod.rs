//! Parts of neural networks: linear layers and their low-rank updates, attention, caches, norms.

pub(crate) mod adapter_parts;
pub(crate) mod attention;
pub(crate) mod cache;
pub(crate) mod embeddings;
pub(crate) mod experts;
pub(crate) mod gated_delta;
pub(crate) mod head;
pub(crate) mod linear;
pub(crate) mod lora;
pub(crate) mod mlp;
pub(crate) mod pre_norm;
pub(crate) mod recompute;
pub(crate) mod rope;
pub(crate) mod rows;
pub(crate) mod stream;
