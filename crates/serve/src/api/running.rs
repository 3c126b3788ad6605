//! A request that is being answered: the events of the engine, as pieces of the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use chat_format::{ChatTokenizer, ToolCall};
use models::FinishReason;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::error::ApiError;
use super::request::{Rendered, Request};
use crate::answer::{Delta, Detokenizer, Reader};
use crate::engine::queue::{Event, Failure, Job, Queue};
use crate::grammar::Grammar;
use crate::options::Limits;
use crate::served::Served;

/// The request's answers. Dropped, they are not generated any further.
#[derive(Debug)]
pub(crate) struct Running {
    pub served: Arc<Served>,
    pub usage: Usage,
    pub answers: Vec<Answer>,
    events: UnboundedReceiver<Event>,
    stopped: Arc<[AtomicBool]>,
}

/// Tokens of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub prompt: usize,
    pub cached: usize,
    pub completion: usize,
}

/// One answer, as far as it is known.
#[derive(Debug)]
pub(crate) struct Answer {
    pub reasoning: String,
    pub words: String,
    pub calls: Vec<ToolCall>,
    /// Why it ended, once it has.
    pub finish: Option<Finish>,
    detokenizer: Detokenizer,
    reader: Reader,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    Stop,
    Length,
    Calls,
}

/// New pieces of an answer.
#[derive(Debug)]
pub(crate) struct Update {
    pub choice: usize,
    pub deltas: Vec<Delta>,
    pub finish: Option<Finish>,
}

impl Finish {
    /// OpenAI's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Calls => "tool_calls",
        }
    }
}

impl Running {
    /// Puts a request in the queue.
    pub fn start(
        request: &Request,
        rendered: Rendered,
        grammar: Option<Grammar>,
        tokenizer: &Arc<ChatTokenizer>,
        queue: &Queue,
        limits: &Limits,
    ) -> Result<Self, ApiError> {
        let Rendered { tokens, opened } = rendered;
        let (sender, events) = mpsc::unbounded_channel();
        let stopped: Arc<[AtomicBool]> =
            (0..request.choices).map(|_| AtomicBool::default()).collect();
        let answer = |_| Answer {
            reasoning: String::new(),
            words: String::new(),
            calls: Vec::new(),
            finish: None,
            detokenizer: Detokenizer::new(tokenizer),
            reader: Reader::new(request.wanted.clone(), opened.as_deref()),
        };
        let answers = (0..request.choices).map(answer).collect();
        let usage = Usage { prompt: tokens.len(), ..Usage::default() };
        let mut options = request.sampling.clone();
        options.max_tokens = options.max_tokens.min(limits.context_tokens - tokens.len());
        queue.push(Job {
            served: Arc::clone(&request.served),
            prompt: tokens,
            choices: request.choices,
            options,
            grammar,
            stopped: Arc::clone(&stopped),
            since: request.since,
            deadline: request.since + limits.request,
            events: sender,
        })?;
        Ok(Self { served: Arc::clone(&request.served), usage, answers, events, stopped })
    }

    /// The next pieces of an answer; `None` when all are complete.
    pub async fn next(&mut self) -> Option<Result<Update, ApiError>> {
        loop {
            if self.answers.iter().all(|answer| answer.finish.is_some()) {
                return None;
            }
            let update = match self.events.recv().await {
                Some(Event::Started { cached }) => {
                    self.usage.cached = cached;
                    continue;
                }
                Some(Event::Token { choice, token }) => self.token(choice, token),
                Some(Event::Finished { choice, reason }) => self.finished(choice, reason),
                Some(Event::Failed(failure)) => return Some(Err(failure.into())),
                None => return Some(Err(Failure::Stopping.into())),
            };
            if let Some(update) = update {
                return Some(Ok(update));
            }
        }
    }

    fn token(&mut self, choice: usize, token: u32) -> Option<Update> {
        let answer = self.answers.get_mut(choice).filter(|answer| answer.finish.is_none())?;
        self.usage.completion += 1;
        let text = answer.detokenizer.push(token);
        let deltas = answer.reader.push(&text);
        if answer.reader.is_stopped() {
            if let Some(stopped) = self.stopped.get(choice) {
                stopped.store(true, Relaxed);
            }
            return self.finished_with(choice, FinishReason::Stop, deltas);
        }
        answer.add(&deltas);
        (!deltas.is_empty()).then_some(Update { choice, deltas, finish: None })
    }

    fn finished(&mut self, choice: usize, reason: FinishReason) -> Option<Update> {
        let answer = self.answers.get_mut(choice).filter(|answer| answer.finish.is_none())?;
        let text = answer.detokenizer.finish();
        let deltas = answer.reader.push(&text);
        // The last character may complete a stop text.
        let stopped = answer.reader.is_stopped();
        self.finished_with(choice, if stopped { FinishReason::Stop } else { reason }, deltas)
    }

    fn finished_with(
        &mut self,
        choice: usize,
        reason: FinishReason,
        mut deltas: Vec<Delta>,
    ) -> Option<Update> {
        let answer = self.answers.get_mut(choice)?;
        deltas.extend(answer.reader.finish());
        answer.add(&deltas);
        let finish = match reason {
            FinishReason::Stop if !answer.calls.is_empty() => Finish::Calls,
            FinishReason::Stop => Finish::Stop,
            FinishReason::Length => Finish::Length,
        };
        answer.finish = Some(finish);
        Some(Update { choice, deltas, finish: Some(finish) })
    }
}

impl Answer {
    fn add(&mut self, deltas: &[Delta]) {
        for delta in deltas {
            match delta {
                Delta::Reasoning(text) => self.reasoning += text,
                Delta::Words(text) => self.words += text,
                Delta::Calls(calls) => self.calls.extend(calls.iter().cloned()),
            }
        }
    }
}
