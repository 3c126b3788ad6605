//! The Qwen3.5 family, dense: three of four layers remember by the gated delta rule, in a state that
//! does not grow, every fourth by gated attention.

mod attention;
mod block;
mod config;
mod convolution;
mod delta_net;
mod names;
mod shape;

pub(crate) use block::{Block, load};
pub(crate) use config::read as read_config;
pub(crate) use names::rename;
pub(crate) use shape::Shape;
