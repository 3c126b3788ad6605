//! Threads that share work on a CPU.
//!
//! MLX runs the elementwise operations of a thread's stream one after the other. Two threads with
//! one BLAS thread each therefore finish sooner than one thread with two.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use mlx_sys::blas::OpenBlas;

use crate::linear::Kernels;

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

/// Divides the cores among lanes for as long as it lives: what BLAS does with each product is a
/// setting of the process.
pub(crate) struct BlasThreads {
    before: Option<(OpenBlas, NonZeroUsize)>,
}

impl BlasThreads {
    pub fn shared_by(lanes: usize) -> Self {
        let before = OpenBlas::get().and_then(|blas| {
            let before = NonZeroUsize::new(blas.threads())?;
            blas.set_threads(NonZeroUsize::new(cores() / lanes).unwrap_or(NonZeroUsize::MIN));
            Some((blas, before))
        });
        Self { before }
    }
}

impl Drop for BlasThreads {
    fn drop(&mut self) {
        if let Some((blas, threads)) = self.before {
            blas.set_threads(threads);
        }
    }
}
