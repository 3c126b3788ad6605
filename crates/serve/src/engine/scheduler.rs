//! Decides what the model computes next: which jobs begin, which prompts advance, which batches step.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use models::{Adapter, Model, Prompt};

use super::group::{Group, class};
use super::prefixes::{Plan, Prefixes};
use super::queue::{Event, Failure, Job, Queue};
use crate::metrics::Metrics;
use crate::options::Limits;
use crate::served::Served;

/// How long an idle thread sleeps before it looks after adapters that nobody uses any more.
const NAP: Duration = Duration::from_millis(500);
/// Without running answers, prompts are processed in chunks so many times as large.
const ALONE: usize = 4;

/// The state of the thread that owns the model.
#[derive(Debug)]
pub(super) struct Scheduler {
    model: Model,
    limits: Limits,
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
    /// By [`Served::id`].
    adapters: HashMap<u64, (Arc<Served>, Adapter)>,
    prefixes: Prefixes,
    /// Jobs whose prompt is being processed, in the order they came.
    prompts: Vec<Pending>,
    groups: Vec<Group>,
    /// Whose turn it is: the oldest prompt's or the shortest one's.
    oldest_first: bool,
}

#[derive(Debug)]
struct Pending {
    job: Job,
    prompt: Prompt,
    /// See [`Plan::keep_at`].
    keep_at: Option<usize>,
}

impl Pending {
    /// Tokens up to where its processing must pause, or to its end.
    fn rest(&self) -> usize {
        let end = self.keep_at.unwrap_or(self.prompt.tokens().len());
        end.saturating_sub(self.prompt.processed())
    }
}

impl Scheduler {
    pub fn new(model: Model, limits: Limits, queue: Arc<Queue>, metrics: Arc<Metrics>) -> Self {
        Self {
            model,
            limits,
            queue,
            metrics,
            adapters: HashMap::new(),
            prefixes: Prefixes::new(limits.prefix_bytes),
            prompts: Vec::new(),
            groups: Vec::new(),
            oldest_first: true,
        }
    }

    /// Serves until the queue is closed.
    pub fn run(mut self) {
        while !self.queue.is_closed() {
            self.admit();
            if self.prompts.is_empty() && self.groups.is_empty() {
                self.retire();
                self.report();
                self.queue.wait(NAP);
                continue;
            }
            self.process_prompts();
            self.step();
            self.retire();
            self.report();
        }
        self.groups.iter().for_each(|group| group.fail(Failure::Stopping, &self.metrics));
        self.prompts
            .iter()
            .for_each(|one| one.job.fail(Failure::Stopping, one.job.choices, &self.metrics));
    }

    /// Takes jobs from the queue while there is room for their answers.
    fn admit(&mut self) {
        let mut adapters = Vec::new();
        loop {
            let job = self.queue.pop(&mut adapters, |job| self.has_room(job));
            for (served, adapter) in adapters.drain(..) {
                self.adapters.insert(served.id, (served, adapter));
            }
            let Some(job) = job else { return };
            if job.is_abandoned(job.choices, &self.metrics) {
                continue;
            }
            let Plan { prefix, keep_at } = self.prefixes.plan(job.served.id, &job.prompt);
            let prompt = Prompt::after(prefix, job.prompt.clone());
            let cached = prompt.processed();
            job.send(Event::Started { cached });
            self.metrics.prompt_tokens.fetch_add(job.prompt.len() as u64, Relaxed);
            self.metrics.cached_tokens.fetch_add(cached as u64, Relaxed);
            self.prompts.push(Pending { job, prompt, keep_at });
        }
    }

    /// Whether a job may begin. One always may.
    fn has_room(&self, job: &Job) -> bool {
        let running: usize = self.groups.iter().map(Group::len).sum();
        let beginning: usize = self.prompts.iter().map(|one| one.job.choices).sum();
        if running + beginning == 0 {
            return true;
        }
        let bytes = |job: &Job| {
            job.choices * self.model.cache_bytes(job.prompt.len() + job.options.max_tokens)
        };
        let used: usize = self.groups.iter().map(Group::cache_bytes).sum();
        let promised: usize = self.prompts.iter().map(|one| bytes(&one.job)).sum();
        running + beginning + job.choices <= self.limits.batch
            && used + promised + bytes(job) <= self.limits.cache_bytes
    }

    /// Processes a chunk of the prompts of one adapter. By turns, the oldest and the shortest come first:
    /// a long prompt neither waits for ever nor makes all others wait.
    fn process_prompts(&mut self) {
        let metrics = Arc::clone(&self.metrics);
        self.prompts.retain(|one| !one.job.is_abandoned(one.job.choices, &metrics));
        self.oldest_first = !self.oldest_first;
        let first = match self.oldest_first {
            true => self.prompts.first(),
            false => self.prompts.iter().min_by_key(|one| one.rest()),
        };
        let Some(served) = first.map(|one| Arc::clone(&one.job.served)) else { return };
        let group = match self.group(&served, 0) {
            Ok(group) => group,
            Err(error) => return self.fail_prompts(&served, &error),
        };
        let Some(group) = self.groups.get(group) else { return };
        let mut chunk: Vec<&mut Pending> =
            self.prompts.iter_mut().filter(|one| *one.job.served == *served).collect();
        if !self.oldest_first {
            chunk.sort_by_key(|one| one.rest());
        }
        let idle = self.groups.iter().all(Group::is_empty);
        let mut most = self.limits.prompt_tokens_per_step * if idle { ALONE } else { 1 };
        // Up to the first that must pause, which is processed no further than that.
        let pausing = chunk.iter().position(|one| one.keep_at.is_some());
        match pausing {
            Some(0) => {
                chunk.truncate(1);
                most = most.min(chunk.iter().map(|one| one.rest()).sum());
            }
            Some(count) => chunk.truncate(count),
            None => {}
        }
        let mut prompts: Vec<&mut Prompt> = chunk.iter_mut().map(|one| &mut one.prompt).collect();
        if let Err(error) = group.process(&mut prompts, most) {
            return self.fail_prompts(&served, &error);
        }
        self.keep_prefixes();
        self.join_processed();
    }

    /// Keeps the beginnings that are worth it, now that they are processed.
    fn keep_prefixes(&mut self) {
        for one in &mut self.prompts {
            let processed = one.prompt.processed();
            if one.keep_at.is_none_or(|length| processed < length) {
                continue;
            }
            one.keep_at = None;
            match (one.prompt.prefix(), one.prompt.tokens().get(..processed)) {
                (Ok(prefix), Some(tokens)) => {
                    self.prefixes.keep(one.job.served.id, tokens, prefix);
                }
                (Err(error), _) => tracing::warn!("a prompt's beginning is not kept: {error}"),
                (Ok(_), None) => {}
            }
        }
    }

    /// Begins the answers to processed prompts.
    fn join_processed(&mut self) {
        let processed = self.prompts.extract_if(.., |one| one.prompt.is_processed());
        for Pending { job, prompt, .. } in processed.collect::<Vec<_>>() {
            let served = Arc::clone(&job.served);
            let index = match self.group(&served, class(prompt.tokens().len())) {
                Ok(index) => index,
                Err(error) => {
                    tracing::error!("{}: {error}", served.name);
                    job.fail(Failure::Model, job.choices, &self.metrics);
                    continue;
                }
            };
            let Some(group) = self.groups.get_mut(index) else { continue };
            self.metrics.generated(job.choices as u64);
            if let Err(error) = group.join(job, &prompt, &self.metrics) {
                tracing::error!("{}: {error}", served.name);
                self.groups.swap_remove(index).fail(Failure::Model, &self.metrics);
            }
        }
    }

    /// Generates the next token of every answer.
    fn step(&mut self) {
        let metrics = &self.metrics;
        self.groups.retain_mut(|group| match group.step(metrics) {
            Ok(()) => !group.is_empty(),
            Err(error) => {
                tracing::error!("{}: {error}", group.served.name);
                group.fail(Failure::Model, metrics);
                false
            }
        });
    }

    /// The index of the group for prompts of this class.
    fn group(&mut self, served: &Arc<Served>, class: u32) -> models::Result<usize> {
        if let Some(index) = self.groups.iter().position(|group| group.is_for(served, class)) {
            return Ok(index);
        }
        let none;
        let adapter = match self.adapters.get(&served.id) {
            Some((_, adapter)) => adapter,
            None => {
                // Adapters come before their jobs.
                tracing::error!("{}: the adapter is not loaded", served.name);
                none = Adapter::new(Vec::new());
                &none
            }
        };
        let group = Group::new(&self.model, adapter, Arc::clone(served), class)?;
        self.groups.push(group);
        Ok(self.groups.len() - 1)
    }

    fn fail_prompts(&mut self, served: &Served, error: &models::Error) {
        tracing::error!("{}: {error}", served.name);
        for one in self.prompts.extract_if(.., |one| *one.job.served == *served) {
            one.job.fail(Failure::Model, one.job.choices, &self.metrics);
        }
    }

    /// Drops adapters that are not served any more and that no job uses.
    fn retire(&mut self) {
        let prefixes = &mut self.prefixes;
        self.adapters.retain(|id, (served, _)| {
            let used = Arc::strong_count(served) > 1;
            if !used {
                prefixes.forget(*id);
            }
            used
        });
    }

    fn report(&self) {
        let metrics = &self.metrics;
        let count = |usize: usize| usize as u64;
        let running = self.groups.iter().map(Group::len).sum();
        metrics.running.store(count(running), Relaxed);
        metrics.waiting.store(count(self.queue.len() + self.prompts.len()), Relaxed);
        let bytes = self.groups.iter().map(Group::cache_bytes).sum();
        metrics.cache_bytes.store(count(bytes), Relaxed);
        metrics.prefix_bytes.store(count(self.prefixes.bytes()), Relaxed);
    }
}

impl Job {
    /// Tells whoever waits. If nobody does, the job is dropped at the next step.
    pub(super) fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Fails so many of its answers.
    pub(super) fn fail(&self, failure: Failure, answers: usize, metrics: &Metrics) {
        metrics.failed.fetch_add(answers as u64, Relaxed);
        self.send(Event::Failed(failure));
    }

    /// Whether its client has gone, or its time is over; so many of its answers end by that.
    pub(super) fn is_abandoned(&self, answers: usize, metrics: &Metrics) -> bool {
        if self.events.is_closed() {
            metrics.cancelled.fetch_add(answers as u64, Relaxed);
            return true;
        }
        let late = Instant::now() >= self.deadline;
        if late {
            self.fail(Failure::TimedOut, answers, metrics);
        }
        late
    }
}
