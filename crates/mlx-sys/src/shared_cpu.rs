//! Runs several MLX streams on one CPU: BLAS threads and queued tasks are divided among them.

use std::ffi::c_int;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use crate::blas::OpenBlas;

/// Tasks, of ten operations each, that each further lane may have waiting. With fewer its stream runs dry (a fifth of
/// the time with two lanes); with more, unused results fill memory.
const TASKS: usize = 60;

/// While this value lives, several threads (lanes), each with its own MLX stream, share the CPU.
///
/// It changes two settings of the process: the threads of one BLAS product, to a lane's share of the cores, and the
/// number of tasks that MLX, which counts those of all streams together, lets wait. Dropping it restores both.
#[derive(Debug)]
pub struct SharedCpu {
    before: Option<(OpenBlas, NonZeroUsize)>,
    tasks: c_int,
}

impl SharedCpu {
    /// Divides the CPU among `lanes` threads.
    pub fn among(lanes: usize) -> Self {
        let lanes = lanes.max(1);
        let before = OpenBlas::get().and_then(|blas| {
            let before = NonZeroUsize::new(blas.threads())?;
            let cores = available_parallelism().map_or(1, NonZeroUsize::get);
            blas.set_threads(NonZeroUsize::new(cores / lanes).unwrap_or(NonZeroUsize::MIN));
            Some((blas, before))
        });
        let tasks = c_int::try_from((lanes - 1) * TASKS).unwrap_or(0);
        queue(tasks);
        Self { before, tasks }
    }
}

impl Drop for SharedCpu {
    fn drop(&mut self) {
        queue(-self.tasks);
        if let Some((blas, threads)) = self.before {
            blas.set_threads(threads);
        }
    }
}

fn queue(tasks: c_int) {
    // SAFETY: any number is valid. It fails only where MLX has no CPU stream, and then there is nothing to set.
    let _ = unsafe { crate::mlx_cpu_queue(tasks) };
}
