//! Who answers an exam, and how answers are sampled.

use std::time::Duration;

use durable::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::suite::{Case, Turn};

/// Answers the questions of an exam: a model with or without an adapter, a recording, or a test's script.
pub trait Answerer {
    /// The model and adapter, for the run's manifest.
    fn subject(&self) -> Subject;

    /// Answers a batch of questions: one answer each, in their order.
    fn answer(
        &mut self,
        questions: &[Question<'_>],
        sampling: &Sampling,
    ) -> std::result::Result<Vec<Answer>, Box<dyn std::error::Error + Send + Sync>>;
}

/// What an [`Answerer`] is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The system prompt; empty for none.
    pub system: &'a str,
    /// The tools that the model may call, as OpenAI declares functions.
    pub tools: &'a [serde_json::Value],
    /// The conversation so far; the last turn is the user's.
    pub turns: &'a [Turn],
}

impl<'a> From<&'a Case> for Question<'a> {
    fn from(case: &'a Case) -> Self {
        Question { system: &case.system, tools: &case.tools, turns: &case.turns }
    }
}

/// How answers are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// The maximum number of tokens of an answer.
    pub max_tokens: usize,
    /// The softmax temperature; 0 always takes the most probable token.
    pub temperature: f32,
    /// Nucleus sampling: only the most probable tokens that together have this probability.
    pub top_p: f32,
    /// The seed of the random sampling.
    #[serde(skip)]
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { max_tokens: 128, temperature: 0.0, top_p: 1.0, seed: 0 }
    }
}

/// An answer as the model gave it.
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
    /// How long it took; all answers of a batch have the batch's time.
    pub latency: Duration,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model ended the answer.
    Stop,
    /// The answer reached the maximum number of tokens.
    Length,
}

/// Who answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// The model, by name or path.
    pub model: String,
    /// The digest of the model's weights, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_digest: Option<Digest>,
    /// The adapter, by name or path; none for the base model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// The digest of the adapter's weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_digest: Option<Digest>,
}
