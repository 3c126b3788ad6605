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

use mlx_rs::Array;

use crate::Result;
use crate::exp::sigmoid;

/// The tanh approximation of GELU: `x / 2 * (1 + tanh(u))` is `x * sigmoid(2 u)`.
fn gelu(x: &Array) -> Result<Array> {
    const TWICE_ROOT: f32 = 1.595_769; // 2 * sqrt(2 / pi)
    const CUBIC: f32 = 0.044_715;
    let scalar = |value: f32| Array::from_f32(value).as_dtype(x.dtype());
    let bent = x.square()?.multiply(scalar(CUBIC * TWICE_ROOT)?)?.add(scalar(TWICE_ROOT)?)?;
    Ok(x.multiply(sigmoid(&x.multiply(bent)?)?)?)
}
