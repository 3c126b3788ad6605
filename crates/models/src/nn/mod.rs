//! Parts of neural networks: linear layers and their low-rank updates, norms, attention, recurrence,
//! caches, the output head. They get their tensors from a [`WeightSource`](crate::checkpoint::WeightSource)
//! and know no model family.

pub(crate) mod adapter;
pub(crate) mod attention;
pub(crate) mod batch;
pub(crate) mod block;
pub(crate) mod cache;
pub(crate) mod expert_mlps;
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
pub(crate) mod sparse_mlp;

pub(crate) use adapter::{Adapter, LayerAdapter};
pub(crate) use attention::{
    AttentionKernel, AttentionMode, AttentionSpec, KeySource, MASKED, Projections, attend, scores,
};
pub(crate) use batch::{Batch, Flow};
pub(crate) use block::{Block, TokenInputs};
pub(crate) use cache::{Cache, CacheShape, Columns, KvCache, Prefix, RecurrentState, StateShape};
pub(crate) use expert_mlps::{ExpertMlps, highest};
pub(crate) use experts::{ExpertLinear, Uses};
pub(crate) use footprint::{Activations, BatchSize, Footprint};
pub(crate) use gated_delta::CHUNK;
pub(crate) use head::Head;
pub(crate) use linear::Linear;
pub(crate) use linear_spec::LinearSpec;
pub(crate) use loader::Loader;
pub(crate) use lora::{AdapterKind, Lora, dora_unsupported, row_norms};
pub(crate) use mlp::{DOWN, GATE, Mlp, MlpPaths, UP};
pub(crate) use norm::RmsNorm;
pub(crate) use pre_norm::{FeedForward, Mixer, PreNorm};
pub(crate) use prefetch::Prefetch;
pub(crate) use recompute::Recomputed;
pub(crate) use rope::{Frequencies, Rope, RopeStyle, Rotation, Scaling};
pub(crate) use rows::{Rows, common_prefix, ends};
pub(crate) use sparse_mlp::{SparseMlp, SparseShape};
