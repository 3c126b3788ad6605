//! Rows of one question and its answer, under any of the usual names.

use std::borrow::Cow;

use serde_json::Value;

use super::{CHOSEN, Reader, decoded, text};
use crate::clean::report::Shape;
use crate::clean::walk;
use crate::draft::Draft;
use crate::raw::{Fields, Raw};
use crate::{Problem, Role};

/// The keys of a question and its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    question: &'static str,
    answer: &'static str,
}

/// The keys of questions, each with those of answers: the usual one first.
const NAMES: [(&str, [&str; 5]); 5] = [
    ("instruction", ["output", "response", "completion", "answer", CHOSEN]),
    ("prompt", ["completion", "response", "answer", "output", CHOSEN]),
    ("question", ["answer", "response", "output", "completion", CHOSEN]),
    ("query", ["response", "answer", "output", "completion", CHOSEN]),
    ("input", ["output", "response", "completion", "answer", CHOSEN]),
];

impl Names {
    /// The names that a row uses. `input` alone may be anything, so it needs its answer.
    pub(super) fn of(fields: &Fields<'_>) -> Option<Self> {
        let (question, answers) = NAMES.iter().find(|(question, _)| fields.has(question))?;
        let answer = answers.iter().find(|answer| fields.has(answer));
        let usual = answers.first().filter(|_| *question != "input");
        Some(Names { question, answer: answer.or(usual)? })
    }

    pub(super) fn shape(self) -> Shape {
        match self.question {
            "instruction" => Shape::Alpaca,
            "prompt" => Shape::PromptCompletion,
            _ => Shape::QuestionAnswer,
        }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn question(&mut self, names: Names) -> Result<Vec<Draft<'a>>, Problem> {
        let question = self.fields.take(names.question);
        let answer = self.fields.take(names.answer);
        if let Some(Raw::Text(prompt)) = &question
            && walk::is_conversation(prompt)
        {
            return Ok(vec![Draft::new(Role::User, rendered(names, prompt, answer)?)]);
        }
        let mut messages = self.history(names)?;
        let question = match question {
            Some(Raw::Text(question)) => Some(Raw::Text(self.with_context(question, names)?)),
            other => other,
        };
        let sides =
            [(names.question, Role::User, question), (names.answer, Role::Assistant, answer)];
        for (key, role, value) in sides {
            messages.append(&mut self.side(key, role, value)?);
        }
        Ok(messages)
    }

    /// One side of an exchange: a text, or messages.
    pub(super) fn side(
        &mut self,
        key: &str,
        role: Role,
        value: Option<Raw<'a>>,
    ) -> Result<Vec<Draft<'a>>, Problem> {
        match value {
            Some(Raw::Array(items)) => self.turns(key, items),
            Some(Raw::Object(message)) => self.turns(key, vec![Raw::Object(message)]),
            other => Ok(vec![Draft::new(role, text(other, key)?)]),
        }
    }

    /// The question, and below it what it is about: Alpaca's `input`, Dolly's `context`.
    fn with_context(
        &mut self,
        question: Cow<'a, str>,
        names: Names,
    ) -> Result<Cow<'a, str>, Problem> {
        let context = match names.question {
            "instruction" if self.fields.has("input") => "input",
            "prompt" | "input" => return Ok(question),
            _ => "context",
        };
        Ok(match optional(&mut self.fields, context)? {
            None => question,
            Some(context) if question.is_empty() => context,
            Some(context) => format!("{question}\n\n{context}").into(),
        })
    }

    /// Earlier rounds: a list of pairs of question and answer. Alpaca defines the key; elsewhere it may be anything else.
    fn history(&mut self, names: Names) -> Result<Vec<Draft<'a>>, Problem> {
        let rounds = match self.fields.take("history").map(decoded) {
            None => return Ok(Vec::new()),
            Some(Raw::Array(rounds)) => rounds,
            Some(other) if names.question != "instruction" => {
                self.fields.insert("history", other);
                return Ok(Vec::new());
            }
            Some(other) => {
                let expected = "a list of pairs of question and answer";
                return Err(Problem::value("history", expected, &other.into()));
            }
        };
        let mut messages = Vec::new();
        for (index, round) in rounds.into_iter().enumerate() {
            let pair = match round {
                Raw::Array(pair) => <[Raw<'a>; 2]>::try_from(pair).map_err(Raw::Array),
                other => Err(other),
            };
            match pair {
                Ok([Raw::Text(question), Raw::Text(answer)]) => messages.extend([
                    Draft::new(Role::User, question),
                    Draft::new(Role::Assistant, answer),
                ]),
                other => {
                    let found =
                        other.map_or_else(Value::from, |pair| Raw::Array(pair.into()).into());
                    let at = format!("history[{index}]");
                    return Err(Problem::value(at, "a question and its answer", &found));
                }
            }
        }
        Ok(messages)
    }
}

/// A rendered prompt and its completion as one text.
fn rendered<'a>(
    names: Names,
    prompt: &str,
    completion: Option<Raw<'a>>,
) -> Result<Cow<'a, str>, Problem> {
    match completion {
        None => Ok(Cow::Owned(prompt.to_owned())),
        Some(Raw::Text(answer)) if walk::awaits_answer(prompt) => {
            Ok(Cow::Owned(format!("{prompt}{answer}")))
        }
        Some(Raw::Text(_)) => {
            let expected = "a rendered prompt that ends where the assistant's turn begins";
            Err(Problem::new(names.question, expected, "one that ends elsewhere"))
        }
        Some(other) => Err(Problem::value(names.answer, "a text", &other.into())),
    }
}

/// A text that may be absent or empty.
fn optional<'a>(fields: &mut Fields<'a>, key: &str) -> Result<Option<Cow<'a, str>>, Problem> {
    match fields.take(key) {
        None => Ok(None),
        Some(Raw::Text(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(other) => Err(Problem::value(key, "a text", &other.into())),
    }
}
