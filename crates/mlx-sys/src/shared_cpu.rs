//! Threads that evaluate side by side on a CPU.

use std::ffi::c_int;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use crate::blas::OpenBlas;

/// Tasks, of ten operations each, that each further lane may have waiting: fewer, and its stream runs
/// dry (a fifth of the time with two lanes); more, and results that nobody has used yet fill memory.
const TASKS: usize = 60;

/// While it lives, several threads (lanes) share the CPU, each with a stream of MLX's of its own.
///
/// Both settings belong to the process: BLAS gives each product the threads that are a lane's share,
/// and MLX, which counts the tasks of all streams together, lets so many more of them wait.
#[derive(Debug)]
pub struct SharedCpu {
    before: Option<(OpenBlas, NonZeroUsize)>,
    tasks: c_int,
}

impl SharedCpu {
    /// For so many lanes.
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
    // SAFETY: any number is valid. It fails only where MLX has no CPU stream: then none runs dry.
    let _ = unsafe { crate::mlx_cpu_queue(tasks) };
}
