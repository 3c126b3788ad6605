//! Worker threads ("lanes") that compute the micro-batches of an update in parallel.
//!
//! MLX runs the elementwise operations of a stream on one thread, and every thread has a default
//! stream of its own. On a CPU, several lanes are therefore faster than one, even if matrix products
//! use all cores.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use mlx_sys::SharedCpu;
use models::Model;

use crate::{Error, Result};

type Job = Box<dyn FnOnce(&Model) + Send>;

/// Worker threads, each with a clone of the model: an `mlx_rs::Array` is `Send` but not `Sync`. The
/// clones share their buffers.
pub(crate) struct Lanes {
    workers: Vec<Worker>,
    _cpu: SharedCpu,
}

struct Worker {
    jobs: Sender<Job>,
    thread: Option<JoinHandle<()>>,
}

impl Lanes {
    /// Starts `count` threads (at least one).
    pub(crate) fn start(model: &Model, count: usize) -> Self {
        let workers: Vec<_> = (0..count.max(1)).map(|_| Worker::start(model.clone())).collect();
        let cpu = SharedCpu::among(workers.len());
        Self { workers, _cpu: cpu }
    }

    /// Runs `work` on each element of `shares`, on a lane each, and returns the results in order.
    ///
    /// # Errors
    /// The first error in the order of the shares; [`Error::LaneLost`] if a thread panicked.
    pub(crate) fn run<S, R, F>(&self, shares: Vec<S>, work: F) -> Result<Vec<R>>
    where
        S: Send + 'static,
        R: Send + 'static,
        F: Fn(&Model, S) -> Result<R> + Clone + Send + 'static,
    {
        let answers: Vec<Receiver<Result<R>>> = shares
            .into_iter()
            .zip(self.workers.iter().cycle())
            .map(|(share, worker)| {
                let (answer, receiver) = channel();
                let work = work.clone();
                let job: Job = Box::new(move |model| {
                    // Sending fails only if another lane has failed and the caller has returned.
                    let _ = answer.send(work(model, share));
                });
                worker.jobs.send(job).map(|()| receiver).map_err(|_| Error::LaneLost)
            })
            .collect::<Result<_>>()?;
        answers.into_iter().map(|answer| answer.recv().map_err(|_| Error::LaneLost)?).collect()
    }
}

impl Worker {
    fn start(model: Model) -> Self {
        let (jobs, inbox) = channel::<Job>();
        let thread = std::thread::spawn(move || {
            for job in inbox {
                job(&model);
            }
        });
        Self { jobs, thread: Some(thread) }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            // Closing the channel ends the thread's loop.
            worker.jobs = channel().0;
            if let Some(thread) = worker.thread.take() {
                // A panic was already returned to the caller as `LaneLost`.
                let _ = thread.join();
            }
        }
    }
}
