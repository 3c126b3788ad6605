#![doc = include_str!("../README.md")]

mod adapter;
mod attention;
mod cache;
mod checkpoint;
mod config;
mod decode;
mod error;
mod exp;
mod generate;
mod head;
mod lanes;
mod layer;
mod linear;
mod llama;
mod model;
mod rope;
mod rows;
mod sample;
mod score;

pub use adapter::{Adapter, Dropout, LayerAdapter, Lora};
pub use config::{Config, SUPPORTED_ARCHITECTURES};
pub use error::{Differences, Error, Result};
pub use exp::exp;
pub use generate::{Completion, FinishReason, GenerateOptions, Generator};
pub use head::Head;
pub use layer::{Batch, Flow, Layer};
pub use linear::{LinearSpec, WeightResidency};
pub use model::Model;
pub use rope::RopeStyle;
pub use rows::Rows;
pub use score::{Score, ScoreRow, score};
