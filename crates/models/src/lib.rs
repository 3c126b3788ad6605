#![doc = include_str!("../README.md")]

mod adapter;
mod arch;
mod checkpoint;
mod error;
mod ext;
mod generate;
mod model;
mod nn;
mod score;
mod synthesize;

pub use adapter::{Adapter, LayerAdapter};
pub use nn::adapter_parts::AdapterKind;
pub use arch::config::{Config, SUPPORTED_ARCHITECTURES};
pub use error::{Differences, Error, Result};
pub use adapter::export::{export_gguf, export_peft};
pub use adapter::fuse::{FusedWeights, LogitError, fuse};
pub use ext::fused::{exp, exponentials, soft_cap, soft_cap_slope};
pub use nn::gated_delta::{GatedDelta, gated_delta, gated_delta_in_chunks};
pub use generate::{Completion, FinishReason, GenerateOptions, Generator};
pub use nn::head::Head;
pub use model::layer::{Batch, Flow, Layer};
pub use nn::linear::{LinearSpec, WeightResidency};
pub use nn::lora::{Dropout, Lora};
pub use model::Model;
pub use nn::rope::RopeStyle;
pub use nn::rows::Rows;
pub use score::{Score, ScoreRow, score};
pub use synthesize::{Storage, Synthesized, synthesize};
