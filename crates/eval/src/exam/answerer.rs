use std::time::Duration;

use durable::Digest;
use serde::{Deserialize, Serialize};

use crate::suite::{Case, Turn};

/// Whoever sits the exam: a model with or without an adapter, a recording, a test's own rules.
pub trait Answerer {
    /// Who it is, for the run's manifest.
    fn subject(&self) -> Subject;

    /// Answers a batch of questions: one answer each, in their order.
    fn answer(
        &mut self,
        questions: &[Question<'_>],
        sampling: &Sampling,
    ) -> std::result::Result<Vec<Answer>, Box<dyn std::error::Error + Send + Sync>>;
}

/// What is put to an [`Answerer`].
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The system prompt; none if empty.
    pub system: &'a str,
    /// The conversation so far; the last turn is the user's.
    pub turns: &'a [Turn],
}

impl<'a> From<&'a Case> for Question<'a> {
    fn from(case: &'a Case) -> Self {
        Question { system: &case.system, turns: &case.turns }
    }
}

/// How answers are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// The most tokens of an answer.
    pub max_tokens: usize,
    /// 0 takes the likeliest token every time.
    pub temperature: f32,
    /// Only the likeliest tokens that make up this share of the probability.
    pub top_p: f32,
    /// The seed, where the temperature leaves a choice.
    #[serde(skip)]
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { max_tokens: 128, temperature: 0.0, top_p: 1.0, seed: 0 }
    }
}

/// An answer as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What was written, reasoning included.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the answer.
    pub tokens: usize,
    /// How long it took; answers of one batch share its time.
    pub latency: Duration,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model ended it.
    Stop,
    /// It had used up its tokens.
    Length,
}

/// Who answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// The model, by name or path.
    pub model: String,
    /// The digest of the model's weights, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_digest: Option<Digest>,
    /// The adapter, by name or path; none for the bare model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// The digest of the adapter's weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_digest: Option<Digest>,
}
