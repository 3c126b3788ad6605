use chat_format::tool_calls;
use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::refusal::{self, Stance};
use crate::text::{self, Text};
use crate::{Agent, extract};

/// The languages a [`Rule::Language`] can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    En,
    /// French.
    Fr,
}

/// One thing an answer is judged by.
///
/// Rules are of two sorts. *Content* rules earn credit between 0 and 1: what the answer must
/// contain. *Conditions* must hold, or the whole case scores 0, however good the content:
/// `contains_none`, `refusal`, `no_refusal`, `language`, `length`. A case's score is the mean credit of
/// its content rules times the credit of every condition.
///
/// Words match whole words, whatever their case: "windu" is not in "windows", "8123" not in
/// "81234", "1.5" not in "11.5".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    /// Content: every word or phrase; credit is the share of them that is there.
    ContainsAll {
        /// Words or phrases.
        words: Vec<String>,
    },
    /// Content: at least one of the words or phrases.
    ContainsAny {
        /// Words or phrases.
        words: Vec<String>,
    },
    /// Condition: none of the words or phrases; each is something known to be false or forbidden.
    ContainsNone {
        /// Words or phrases.
        words: Vec<String>,
    },
    /// Content: the pattern is found (case-insensitive, `.` stops at line ends).
    Regex {
        /// A pattern in the syntax of the `regex` crate.
        pattern: String,
    },
    /// Content: a number within `tolerance` of `value`, followed by `unit` if one is given.
    Number {
        /// The number expected.
        value: f64,
        /// How far off it may be.
        #[serde(default)]
        tolerance: f64,
        /// The unit that must follow, such as "GB", "%" or "minutes".
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unit: Option<String>,
    },
    /// Condition: the answer refuses; credit is half if it refuses and then helps all the same.
    Refusal {},
    /// Condition: the answer does not refuse; credit is half if it refuses in part.
    NoRefusal {},
    /// Content: the first agent named, other than the one asked, is this one.
    RoutesTo {
        /// The agent to whom the asker should be sent.
        agent: Agent,
    },
    /// Content: some JSON in the answer has this value at this place.
    JsonPath {
        /// A JSON pointer (RFC 6901), such as `/data/entity_id` or `/items/0`.
        path: String,
        /// The exact value; numbers compare by value.
        equals: Value,
    },
    /// Content: the answer calls this tool with exactly these arguments.
    ToolCall {
        /// The tool's name.
        name: String,
        /// All arguments, no more, no fewer.
        arguments: Map<String, Value>,
    },
    /// Condition: the answer is in this language, so far as its length lets one tell.
    Language {
        /// The language.
        is: Language,
    },
    /// Condition: the number of words lies in this range.
    Length {
        /// The fewest words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min_words: Option<usize>,
        /// The most words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_words: Option<usize>,
    },
}

impl Rule {
    /// The rule's name in files and tables.
    pub fn kind(&self) -> &'static str {
        match self {
            Rule::ContainsAll { .. } => "contains_all",
            Rule::ContainsAny { .. } => "contains_any",
            Rule::ContainsNone { .. } => "contains_none",
            Rule::Regex { .. } => "regex",
            Rule::Number { .. } => "number",
            Rule::Refusal {} => "refusal",
            Rule::NoRefusal {} => "no_refusal",
            Rule::RoutesTo { .. } => "routes_to",
            Rule::JsonPath { .. } => "json_path",
            Rule::ToolCall { .. } => "tool_call",
            Rule::Language { .. } => "language",
            Rule::Length { .. } => "length",
        }
    }

    /// Whether the rule must hold, rather than earn credit.
    pub fn is_condition(&self) -> bool {
        matches!(
            self,
            Rule::ContainsNone { .. }
                | Rule::Refusal {}
                | Rule::NoRefusal {}
                | Rule::Language { .. }
                | Rule::Length { .. }
        )
    }

    /// Refuses a rule that every answer or no answer can meet.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |field, problem: &str| Err(Error::Rule { field, problem: problem.into() });
        match self {
            Rule::ContainsAll { words }
            | Rule::ContainsAny { words }
            | Rule::ContainsNone { words } => {
                if words.is_empty() {
                    return refuse("words", "expected at least one word, found none");
                }
                match words.iter().find(|w| !w.chars().any(char::is_alphanumeric)) {
                    Some(word) => refuse("words", &format!("expected a word, found {word:?}")),
                    None => Ok(()),
                }
            }
            Rule::Regex { pattern } if compile(pattern)?.is_match("") => {
                refuse("pattern", "expected a pattern that an empty answer does not match")
            }
            Rule::Number { value, tolerance, .. }
                if !value.is_finite() || !tolerance.is_finite() || *tolerance < 0.0 =>
            {
                refuse("tolerance", "expected a finite value and a tolerance of at least 0")
            }
            Rule::Number { value, tolerance, .. }
                if *tolerance > 0.0 && *tolerance >= value.abs() =>
            {
                let expected = format!("expected a tolerance below the value's size ({value})");
                refuse("tolerance", &format!("{expected}, found {tolerance}"))
            }
            Rule::JsonPath { path, .. } if !path.starts_with('/') => {
                refuse("path", &format!("expected a JSON pointer such as /items/0, found {path:?}"))
            }
            Rule::ToolCall { name, .. } if name.trim().is_empty() => {
                refuse("name", "expected a tool's name, found none")
            }
            Rule::Length { min_words: None | Some(0), max_words: None } => {
                refuse("min_words", "expected min_words above 0 or max_words, found neither")
            }
            Rule::Length { max_words: Some(0), .. } => {
                refuse("max_words", "expected at least 1, found 0")
            }
            Rule::Length { min_words: Some(min), max_words: Some(max) } if min > max => {
                refuse("min_words", &format!("expected at most max_words ({max}), found {min}"))
            }
            _ => Ok(()),
        }
    }
}

/// A [`Rule`] made ready to judge many answers.
pub(crate) struct Judge<'a> {
    rule: &'a Rule,
    pattern: Option<Regex>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(rule: &'a Rule) -> Result<Self> {
        let pattern = match rule {
            Rule::Regex { pattern } => Some(compile(pattern)?),
            _ => None,
        };
        Ok(Judge { rule, pattern })
    }

    pub(crate) fn rule(&self) -> &'a Rule {
        self.rule
    }

    /// The credit in [0, 1] that the rule gives to an answer of `speaker`.
    pub(crate) fn credit(&self, answer: &Text, speaker: Agent) -> f64 {
        let holds = |met: bool| if met { 1.0 } else { 0.0 };
        match self.rule {
            Rule::ContainsAll { words } => {
                let found = words.iter().filter(|w| answer.contains(w)).count();
                found as f64 / words.len().max(1) as f64
            }
            Rule::ContainsAny { words } => holds(words.iter().any(|w| answer.contains(w))),
            Rule::ContainsNone { words } => holds(!words.iter().any(|w| answer.contains(w))),
            Rule::Regex { .. } => {
                holds(self.pattern.as_ref().is_some_and(|p| p.is_match(answer.shown())))
            }
            Rule::Number { value, tolerance, unit } => {
                let close = |n: f64| (n - value).abs() <= *tolerance + f64::EPSILON * value.abs();
                holds(extract::numbers(answer, unit.as_deref()).any(close))
            }
            Rule::Refusal {} => match refusal::stance(answer) {
                Stance::Refused => 1.0,
                Stance::Partial => 0.5,
                Stance::Complied | Stance::Degenerate => 0.0,
            },
            Rule::NoRefusal {} => match refusal::stance(answer) {
                Stance::Complied => 1.0,
                Stance::Partial => 0.5,
                Stance::Refused | Stance::Degenerate => 0.0,
            },
            Rule::RoutesTo { agent } => {
                holds(extract::first_agent(answer, speaker) == Some(*agent))
            }
            Rule::JsonPath { path, equals } => holds(
                extract::json_values(answer.shown())
                    .iter()
                    .filter_map(|value| value.pointer(path))
                    .any(|value| extract::same_json(value, equals)),
            ),
            Rule::ToolCall { name, arguments } => {
                holds(tool_calls::find(answer.shown()).iter().any(|call| {
                    let found = call.arguments.as_object();
                    call.name == *name && found.is_some_and(|a| extract::same_fields(a, arguments))
                }))
            }
            Rule::Language { is } => holds(text::could_be(answer, *is)),
            Rule::Length { min_words, max_words } => {
                let words = answer.words().count();
                holds(min_words.is_none_or(|m| words >= m) && max_words.is_none_or(|m| words <= m))
            }
        }
    }
}

fn compile(pattern: &str) -> Result<Regex> {
    RegexBuilder::new(pattern)
        .case_insensitive(true)
        .build()
        .map_err(|e| Error::Rule { field: "pattern", problem: e.to_string() })
}
