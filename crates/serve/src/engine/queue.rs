//! What the threads of HTTP hand to the thread that owns the model.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use models::{Adapter, FinishReason, GenerateOptions};
use tokio::sync::mpsc::UnboundedSender;

use crate::grammar::Grammar;
use crate::served::Served;

/// A request for answers to one prompt.
#[derive(Debug)]
pub(crate) struct Job {
    pub served: Arc<Served>,
    pub prompt: Vec<u32>,
    /// How many answers.
    pub choices: usize,
    /// Sampling, the most new tokens, the tokens that end an answer.
    pub options: GenerateOptions,
    /// What the answers must follow, if anything.
    pub grammar: Option<Grammar>,
    /// Answers that are complete for whoever asked, by a stop text: set there, read here.
    pub stopped: Arc<[AtomicBool]>,
    /// When it came.
    pub since: Instant,
    /// When it fails if it is not finished.
    pub deadline: Instant,
    /// Where its events go. At most one per token, so it is bounded by the most new tokens. The job is
    /// cancelled when the receiver is dropped.
    pub events: UnboundedSender<Event>,
}

/// What happens to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Its prompt is about to be processed; so many of its tokens are cached already.
    Started { cached: usize },
    /// A new token of this answer.
    Token { choice: usize, token: u32 },
    /// This answer is complete.
    Finished { choice: usize, reason: FinishReason },
    /// All answers are cut short.
    Failed(Failure),
}

/// Why a job fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The time for a request is over.
    TimedOut,
    /// MLX or the model failed; the log says why.
    Model,
    /// The grammar could not be followed any further; the log says why.
    Grammar,
    /// The server stops.
    Stopping,
}

/// Why a job is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The queue is full.
    Full,
    /// The engine has stopped.
    Stopped,
}

/// Jobs that wait, first come first served, and adapters that are to be served.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    adapters: Vec<(Arc<Served>, Adapter)>,
    closed: bool,
}

impl Queue {
    pub fn new(capacity: usize) -> Self {
        Self { state: Mutex::default(), arrived: Condvar::new(), capacity }
    }

    /// Appends a job.
    pub fn push(&self, job: Job) -> Result<(), Refused> {
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Stopped);
        }
        if state.jobs.len() >= self.capacity {
            state.jobs.retain(|job| !job.events.is_closed());
        }
        if state.jobs.len() >= self.capacity {
            return Err(Refused::Full);
        }
        state.jobs.push_back(job);
        self.arrived.notify_one();
        Ok(())
    }

    /// Hands over an adapter. Jobs for it may follow.
    pub fn add(&self, served: Arc<Served>, adapter: Adapter) -> Result<(), Refused> {
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Stopped);
        }
        state.adapters.push((served, adapter));
        Ok(())
    }

    /// The first job, with all adapters that came before it, if `fits` accepts it.
    pub fn pop(
        &self,
        adapters: &mut Vec<(Arc<Served>, Adapter)>,
        fits: impl FnOnce(&Job) -> bool,
    ) -> Option<Job> {
        let mut state = self.state();
        adapters.append(&mut state.adapters);
        let fits = state.jobs.front().is_some_and(fits);
        if fits { state.jobs.pop_front() } else { None }
    }

    /// How many jobs wait.
    pub fn len(&self) -> usize {
        self.state().jobs.len()
    }

    /// Waits until there is a job or the queue is closed, at most so long.
    pub fn wait(&self, most: Duration) {
        let state = self.state();
        if state.jobs.is_empty() && !state.closed {
            // Whatever woke this thread, it looks at the queue again.
            drop(self.arrived.wait_timeout(state, most));
        }
    }

    /// Refuses further jobs and drops those that wait.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        for job in state.jobs.drain(..) {
            // Nobody listens any more: nothing to tell.
            let _ = job.events.send(Event::Failed(Failure::Stopping));
        }
        state.adapters.clear();
        self.arrived.notify_all();
    }

    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is valid between any two statements that change it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
