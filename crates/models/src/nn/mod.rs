//! Parts of neural networks: linear layers and their low-rank updates, norms, attention, recurrence,
//! caches, embeddings. They get their tensors from a [`WeightSource`](crate::checkpoint::WeightSource)
//! and know no model family.

pub(crate) mod adapter;
pub(crate) mod attention;
pub(crate) mod batch;
pub(crate) mod block;
pub(crate) mod cache;
pub(crate) mod embeddings;
pub(crate) mod experts;
pub(crate) mod footprint;
pub(crate) mod gated_delta;
pub(crate) mod head;
pub(crate) mod linear;
pub(crate) mod linear_spec;
pub(crate) mod loader;
pub(crate) mod lora;
pub(crate) mod mlp;
pub(crate) mod norm;
pub(crate) mod pre_norm;
pub(crate) mod prefetch;
pub(crate) mod recompute;
pub(crate) mod rope;
pub(crate) mod rows;
