//! What happens when another champion should serve.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;

/// Whose weights answer the exams of a night: `night` or `server`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ExamWeights {
    /// The night's own, which it loads.
    #[default]
    Night,
    /// Those of the `nightshift serve` at `endpoint`, which serves the candidate by that name meanwhile.
    Server,
}

/// What happens when another champion should serve: after a promotion, and after a rollback.
///
/// A server that follows `serving/BASE.json` of the home needs none of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
#[serde(default, deny_unknown_fields)]
pub struct ServingConfig {
    /// A program and its arguments, for instance to restart a server, to export the adapter or to copy
    /// the home. The path of `serving/BASE.json` is added as the last argument; its content is written
    /// to the program's standard input. If it fails, the promotion is rolled back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on_change: Vec<String>,
    /// The time for each program, and for the endpoint to answer after `on_change`. Default `60s`.
    pub time_limit: Span,
    /// The base of an OpenAI-compatible server, such as `http://127.0.0.1:8080/v1`. It is asked a
    /// question of the exam after a promotion; without an answer the promotion is rolled back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// A program and its arguments that stops the server before the training, so that training and exams have its memory.
    /// If it fails, the night stops. Without it the server keeps its weights, and the night loads its own beside them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pause: Vec<String>,
    /// Starts the server again: after the exams and before a promotion, or when the night stops earlier.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resume: Vec<String>,
    /// Whose weights answer the exams. Default `night`.
    pub exam: ExamWeights,
}

impl ServingConfig {
    /// What is wrong with it.
    pub(super) fn problem(&self) -> Option<String> {
        if self.exam == ExamWeights::Server && self.endpoint.is_none() {
            return Some(
                "serving.exam: server: expected an `endpoint` beside it, found none".into(),
            );
        }
        if self.exam == ExamWeights::Server && !self.pause.is_empty() {
            let expected = "expected no `pause`: a server that has stopped answers no exam";
            return Some(format!("serving.exam: server: {expected}"));
        }
        let [pauses, resumes] = [&self.pause, &self.resume].map(|program| !program.is_empty());
        let (there, missing) = if pauses { ("pause", "resume") } else { ("resume", "pause") };
        (pauses != resumes)
            .then(|| format!("serving.{missing}: expected a program beside `{there}`, found none"))
    }
}

impl Default for ServingConfig {
    fn default() -> Self {
        Self {
            on_change: Vec::new(),
            time_limit: Span(Duration::from_secs(60)),
            endpoint: None,
            pause: Vec::new(),
            resume: Vec::new(),
            exam: ExamWeights::Night,
        }
    }
}
