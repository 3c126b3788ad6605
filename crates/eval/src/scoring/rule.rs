//! The rules by which answers are scored.
//!
//! A new rule is a variant of [`Rule`] with an arm in each of its methods and in `CompiledRule::credit`.

use chat_format::tool_calls;
use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::extract;
use super::refusal::{self, Stance};
use super::text::{Language, Text};
use crate::council::{AgentId, Council};
use crate::error::{Error, Result};

/// One criterion by which an answer is scored.
///
/// There are two sorts of rules. *Content* rules earn a credit between 0 and 1 for what the answer contains.
/// *Conditions* must hold, or the case scores 0 whatever its content: `contains_none`, `refusal`, `no_refusal`,
/// `language`, `length`. A case's score is the mean credit of its content rules times the credit of every condition.
///
/// Words match as whole words and case-insensitively: "windu" is not in "windows", "8123" not in "81234", "1.5" not in
/// "11.5".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Rule {
    /// Content: all words or phrases; the credit is the share of them that the answer contains.
    ContainsAll {
        /// Words or phrases.
        words: Vec<String>,
    },
    /// Content: at least one of the words or phrases.
    ContainsAny {
        /// Words or phrases.
        words: Vec<String>,
    },
    /// Condition: none of the words or phrases, which are known to be false or are forbidden.
    ContainsNone {
        /// Words or phrases.
        words: Vec<String>,
    },
    /// Content: the pattern matches somewhere (case-insensitive; `.` does not match a line break).
    Regex {
        /// A pattern in the syntax of the `regex` crate.
        pattern: String,
    },
    /// Content: a number within `tolerance` of `value`, followed by `unit` if one is given.
    Number {
        /// The number expected.
        value: f64,
        /// The largest accepted difference.
        #[serde(default)]
        tolerance: f64,
        /// The unit that must follow, such as "GB", "%" or "minutes".
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unit: Option<String>,
    },
    /// Condition: the answer refuses; half the credit if it refuses in part.
    Refusal {},
    /// Condition: the answer does not refuse; half the credit if it refuses in part.
    NoRefusal {},
    /// Content: the first agent that the answer names, apart from the one asked, is this one.
    RoutesTo {
        /// The agent to whom the answer should send the user.
        agent: AgentId,
    },
    /// Content: some JSON value in the answer has this value at this path.
    JsonPath {
        /// A JSON pointer (RFC 6901), such as `/data/entity_id` or `/items/0`.
        path: String,
        /// The exact value; numbers are compared by value, so 20 equals 20.0.
        equals: Value,
    },
    /// Content: the answer calls this tool with exactly these arguments.
    ToolCall {
        /// The tool's name.
        name: String,
        /// All arguments of the call.
        arguments: Map<String, Value>,
    },
    /// Condition: the answer is in this language; too short an answer passes in any language of the same script.
    Language {
        /// The language.
        is: Language,
    },
    /// Condition: the number of words is in this range.
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

    /// Whether the rule is a condition rather than a content rule.
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

    /// Refuses a rule that every answer or no answer meets.
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

/// A [`Rule`] with its pattern compiled.
pub(super) struct CompiledRule<'a> {
    pub(super) rule: &'a Rule,
    pattern: Option<Regex>,
}

impl<'a> CompiledRule<'a> {
    pub(super) fn new(rule: &'a Rule) -> Result<Self> {
        let pattern = match rule {
            Rule::Regex { pattern } => Some(compile(pattern)?),
            _ => None,
        };
        Ok(CompiledRule { rule, pattern })
    }

    /// The rule's credit for an answer of the agent `speaker`, between 0 and 1.
    pub(super) fn credit(&self, answer: &Text, speaker: &AgentId, council: &Council) -> f64 {
        let credit = |met: bool| if met { 1.0 } else { 0.0 };
        match self.rule {
            Rule::ContainsAll { words } => {
                let found = words.iter().filter(|w| answer.contains(w)).count();
                found as f64 / words.len().max(1) as f64
            }
            Rule::ContainsAny { words } => credit(words.iter().any(|w| answer.contains(w))),
            Rule::ContainsNone { words } => credit(!words.iter().any(|w| answer.contains(w))),
            Rule::Regex { .. } => {
                credit(self.pattern.as_ref().is_some_and(|p| p.is_match(answer.shown())))
            }
            Rule::Number { value, tolerance, unit } => {
                let close = |n: f64| (n - value).abs() <= *tolerance + f64::EPSILON * value.abs();
                credit(extract::numbers(answer, unit.as_deref()).any(close))
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
                credit(first_agent(answer, speaker, council) == Some(agent))
            }
            Rule::JsonPath { path, equals } => credit(
                extract::json_values(answer.shown())
                    .iter()
                    .filter_map(|value| value.pointer(path))
                    .any(|value| extract::same_json(value, equals)),
            ),
            Rule::ToolCall { name, arguments } => {
                credit(tool_calls::find(answer.shown()).iter().any(|call| {
                    let found = call.arguments.as_object();
                    call.name == *name && found.is_some_and(|a| extract::same_fields(a, arguments))
                }))
            }
            Rule::Language { is } => credit(answer.could_be(*is)),
            Rule::Length { min_words, max_words } => {
                let words = answer.words().count();
                credit(min_words.is_none_or(|m| words >= m) && max_words.is_none_or(|m| words <= m))
            }
        }
    }
}

/// The first agent named other than the speaker, to whom the answer sends the user. None if the answer names more than
/// three others, because a list of the whole council sends the user to nobody.
pub(super) fn first_agent<'c>(
    answer: &Text,
    speaker: &AgentId,
    council: &'c Council,
) -> Option<&'c AgentId> {
    let others = council.agents.iter().filter(|agent| agent.id != *speaker);
    let named = others.filter_map(|agent| {
        let first = agent.names().filter_map(|name| answer.position(name)).min()?;
        Some((first, &agent.id))
    });
    let named: Vec<(usize, &AgentId)> = named.collect();
    // Of agents named at the same place, `min_by_key` takes the one that comes first in the council.
    named.iter().min_by_key(|(at, _)| *at).filter(|_| named.len() <= 3).map(|(_, id)| *id)
}

fn compile(pattern: &str) -> Result<Regex> {
    RegexBuilder::new(pattern)
        .case_insensitive(true)
        .build()
        .map_err(|e| Error::Rule { field: "pattern", problem: e.to_string() })
}
