//! The thread that owns the model: it takes jobs from the [queue](queue::Queue) and answers them all at
//! once, by continuous batching.

mod group;
mod prefixes;
pub(crate) mod queue;
mod scheduler;

use std::sync::Arc;
use std::thread::JoinHandle;

use models::Model;

use crate::grammar::STACK;
use crate::metrics::Metrics;
use crate::options::Limits;
use queue::Queue;
use scheduler::Scheduler;

/// The running thread. Dropped, it stops.
#[derive(Debug)]
pub(crate) struct Engine {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts the thread.
    pub fn start(
        model: Model,
        limits: Limits,
        queue: Arc<Queue>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let closing = Closing(Arc::clone(&queue));
        let work = move || {
            let Closing(queue) = &closing;
            Scheduler::new(model, limits, Arc::clone(queue), metrics).run();
        };
        let thread =
            std::thread::Builder::new().name("engine".into()).stack_size(STACK).spawn(work)?;
        Ok(Self { queue, thread: Some(thread) })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.queue.close();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that owns the model has panicked");
        }
    }
}

/// Closes the queue however the thread ends, so that nobody waits for it.
struct Closing(Arc<Queue>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}
