#![doc = include_str!("../README.md")]

mod activation;
mod attention;
mod dequantize;
mod exp;
mod norm;
mod packed_product;
mod rotate;
mod rows;
mod softmax;

pub use activation::{Activation, activate, activate_backward, gate, gate_backward, soft_cap};
pub use attention::{Attention, attend};
pub use dequantize::{Quantized, dequantize};
pub use exp::exp;
pub use norm::{rms_norm, rms_norm_backward};
pub use packed_product::{Floats, PackedInputs, PackedMatrix, packed_product};
pub use rotate::{Pairs, Rotation, rotate};
pub use softmax::{Exponentials, Scores, exponentials, softmax, softmax_backward};
