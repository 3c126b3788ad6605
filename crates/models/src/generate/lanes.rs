//! Threads that share work on a CPU.
//!
//! MLX runs the elementwise operations of a thread's stream one after the other. Two threads with
//! one BLAS thread each therefore finish sooner than one thread with two.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use crate::nn::linear::Kernels;

/// Fewer rows than this in a lane's matrix products would not pay for reading the weights.
const LEAST_ROWS: usize = 8;
/// Each lane holds activations of its own; beyond a few, memory bandwidth is the limit.
const MOST: usize = 8;

/// How many lanes `rows` rows are worth.
pub(crate) fn count(kernels: Kernels, rows: usize) -> usize {
    match kernels {
        Kernels::Native => 1,
        Kernels::Blas => cores().min(MOST).min(rows / LEAST_ROWS).max(1),
    }
}

fn cores() -> usize {
    available_parallelism().map_or(1, NonZeroUsize::get)
}
