//! The Gemma 4 family: dense models, those with inputs for each layer and shared keys (E2B, E4B), and
//! those with experts (26B-A4B).
//!
//! Most layers look back through a window ("sliding"); every fifth or sixth sees everything before
//! it ("full"), with wider heads and rotations of its own. Around attention and MLP stand two norms
//! each, before and after; a scalar of each layer multiplies all that leaves it.

mod attention;
mod block;
mod config;
mod experts;
mod names;
mod per_layer;
mod shape;

pub(crate) use block::Block;
pub(crate) use config::read as read_config;
pub(crate) use names::rename;
pub(crate) use per_layer::PerLayer;
pub(crate) use shape::{Kind, Shape};
