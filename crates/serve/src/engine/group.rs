//! Answers that are generated in one batch: of one adapter, and of similar length.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use models::{Adapter, ContinuousBatch, FinishReason, Model, Prompt, Sampler};

use super::queue::{Event, Failure, Job};
use crate::grammar::Grammar;
use crate::metrics::Metrics;
use crate::served::Served;

/// Sequences of a batch share its columns, so a long one costs the short ones attention over columns that
/// they do not use: prompts whose lengths differ by more than this factor are not batched together.
const RATIO: usize = 4;
/// Prompts up to this length are all alike.
const SHORT: usize = 512;

/// A batch, and the answers in it.
#[derive(Debug)]
pub(super) struct Group {
    pub served: Arc<Served>,
    class: u32,
    batch: ContinuousBatch,
    /// Answer `i` is sequence `i` of the batch.
    answers: Vec<Answer>,
}

#[derive(Debug)]
struct Answer {
    job: Arc<Job>,
    choice: usize,
    tokens: usize,
    last: Instant,
}

/// The class of a prompt's length.
pub(super) fn class(tokens: usize) -> u32 {
    let (mut class, mut most) = (0, SHORT);
    while tokens > most {
        (class, most) = (class + 1, most.saturating_mul(RATIO));
    }
    class
}

impl Group {
    pub fn new(
        model: &Model,
        adapter: &Adapter,
        served: Arc<Served>,
        class: u32,
    ) -> models::Result<Self> {
        let batch = ContinuousBatch::new(model, adapter)?;
        Ok(Self { served, class, batch, answers: Vec::new() })
    }

    /// Whether it is for prompts of this length.
    pub fn is_for(&self, served: &Served, class: u32) -> bool {
        *self.served == *served && self.class == class
    }

    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    pub fn len(&self) -> usize {
        self.answers.len()
    }

    pub fn cache_bytes(&self) -> usize {
        self.batch.cache_bytes()
    }

    /// Adds the answers to a processed prompt, with their first tokens.
    pub fn join(&mut self, job: Job, prompt: &Prompt, metrics: &Metrics) -> models::Result<()> {
        let job = Arc::new(job);
        for choice in 0..job.choices {
            let mut sampler = Sampler::new(&job.options, choice);
            if let Some(grammar) = &job.grammar {
                sampler = sampler.constrained(grammar.constraint());
            }
            let joined = self.batch.join(prompt, sampler);
            // Those that are in the batch fail with it.
            let token =
                joined.inspect_err(|_| job.fail(Failure::Model, job.choices - choice, metrics))?;
            let (job, last) = (Arc::clone(&job), Instant::now());
            metrics.first_token.record(last.duration_since(job.since));
            self.answers.push(Answer { job, choice, tokens: 0, last });
            if self.answers.last_mut().is_some_and(|answer| answer.is_over(token, metrics)) {
                self.leave(self.answers.len() - 1)?;
            }
        }
        Ok(())
    }

    /// Generates the next token of every answer.
    pub fn step(&mut self, metrics: &Metrics) -> models::Result<()> {
        self.drop_abandoned(metrics)?;
        let tokens = self.batch.step()?;
        metrics.generated(tokens.len() as u64);
        // From the last on, because whoever leaves is replaced by the last.
        for (index, token) in tokens.into_iter().enumerate().rev() {
            let Some(answer) = self.answers.get_mut(index) else { continue };
            let now = Instant::now();
            metrics.between_tokens.record(now.duration_since(answer.last));
            answer.last = now;
            if answer.is_over(token, metrics) {
                self.leave(index)?;
            }
        }
        Ok(())
    }

    /// Fails all answers.
    pub fn fail(&self, failure: Failure, metrics: &Metrics) {
        self.answers.iter().for_each(|answer| answer.job.fail(failure, 1, metrics));
    }

    /// Removes the answers that a stop text completed, whose client has gone, or whose time is over.
    fn drop_abandoned(&mut self, metrics: &Metrics) -> models::Result<()> {
        for index in (0..self.answers.len()).rev() {
            let Some(answer) = self.answers.get(index) else { continue };
            let stopped = answer.is_stopped();
            if stopped {
                metrics.finished.fetch_add(1, Relaxed);
            }
            if stopped || answer.job.is_abandoned(1, metrics) {
                self.leave(index)?;
            }
        }
        Ok(())
    }

    fn leave(&mut self, index: usize) -> models::Result<()> {
        self.answers.swap_remove(index);
        self.batch.leave(index)
    }

    /// Processes prompts, at most so many tokens of them.
    pub fn process(&self, prompts: &mut [&mut Prompt], most: usize) -> models::Result<()> {
        self.batch.process(prompts, most)
    }
}

impl Answer {
    fn is_stopped(&self) -> bool {
        self.job.stopped.get(self.choice).is_some_and(|stopped| stopped.load(Relaxed))
    }

    /// Sends a new token. Returns whether it ends the answer.
    fn is_over(&mut self, token: u32, metrics: &Metrics) -> bool {
        let choice = self.choice;
        if self.job.grammar.as_ref().is_some_and(Grammar::has_failed) {
            self.job.fail(Failure::Grammar, 1, metrics);
            return true;
        }
        let reason = if self.job.options.stop_ids.contains(&token) {
            Some(FinishReason::Stop)
        } else {
            self.tokens += 1;
            self.job.send(Event::Token { choice, token });
            (self.tokens >= self.job.options.max_tokens).then_some(FinishReason::Length)
        };
        let Some(reason) = reason else { return false };
        self.job.send(Event::Finished { choice, reason });
        metrics.finished.fetch_add(1, Relaxed);
        true
    }
}
