//! How many threads ("lanes") generate in parallel on a CPU.
//!
//! MLX runs the elementwise operations of a thread's stream one after the other. Two threads with
//! one BLAS thread each therefore finish sooner than one thread with two.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use crate::backend::Backend;

/// With fewer rows than this per lane, reading the weights costs more than the parallelism saves.
const LEAST_ROWS: usize = 8;
/// Each lane has its own activations; beyond a few lanes, memory bandwidth is the limit.
const MOST: usize = 8;

/// The number of lanes for `rows` rows.
pub(super) fn count(backend: Backend, rows: usize) -> usize {
    match backend.is_native() {
        true => 1,
        false => cores().min(MOST).min(rows / LEAST_ROWS).max(1),
    }
}

fn cores() -> usize {
    available_parallelism().map_or(1, NonZeroUsize::get)
}
