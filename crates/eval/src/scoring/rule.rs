//! The rules by which answers are scored.
//!
//! A new rule is a variant of [`Rule`] with an arm in each of its methods and in `CompiledRule::credit` (`credit.rs`).

use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::clock;
use super::polarity::Polarity;
use super::text::Language;
use crate::council::AgentId;
use crate::error::{Error, Result};

/// One criterion by which an answer is scored.
///
/// There are two sorts of rules. *Content* rules earn a credit between 0 and 1 for what the answer contains.
/// *Conditions* must hold, or the case scores 0 whatever its content: `contains_none`, `refusal`, `no_refusal`,
/// `language`, `length`. A case's score is the mean credit of its content rules times the credit of every condition.
///
/// Words match as whole words and case-insensitively, in either Unicode composition: "windu" is not in "windows", "8123" not
/// in "81234", "1.5" not in "11.5". A word that the answer denies ("not on Monday") earns nothing; a forbidden one is
/// forbidden all the same.
///
/// Beside its rules every case has conditions of its own, see [`Scorer::score`](crate::Scorer::score).
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
    /// Content: at least one word or phrase of every group; nothing for some of the groups.
    ContainsEach {
        /// Groups of words or phrases.
        groups: Vec<Vec<String>>,
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
    /// Condition: the pattern matches nowhere.
    RegexNone {
        /// A pattern in the syntax of the `regex` crate.
        pattern: String,
    },
    /// Content: the answer is or holds a JSON object or array.
    Json {
        /// Whether nothing may stand beside it but a code fence.
        whole: bool,
    },
    /// Content: one of `is`, and none of `others`, which are other answers to the same question.
    Choice {
        /// Words or phrases, of which one suffices.
        is: Vec<String>,
        /// Words or phrases of wrong answers; the answer may deny them.
        others: Vec<String>,
    },
    /// Content: a number within `tolerance` of `value`, and no other one in its place. It may be written in words, and in
    /// another unit of the same kind.
    Number {
        /// The number expected.
        value: f64,
        /// The largest accepted difference.
        #[serde(default)]
        tolerance: f64,
        /// The unit that must follow, such as "GB", "%" or "minutes"; a question that names it makes it optional.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unit: Option<String>,
    },
    /// Content: this time of day, in any usual writing ("20:30", "8:30 PM", "half past eight in the evening"), and no other.
    Time {
        /// Hours and minutes on the 24-hour clock.
        is: String,
    },
    /// Content: the answer affirms or denies what the question asks or claims.
    YesNo {
        /// What it says.
        is: Polarity,
    },
    /// Condition: the answer refuses and gives nothing of what was asked. It lifts the condition that every other case has,
    /// that the answer helps.
    Refusal {},
    /// Condition: the answer does not refuse, not even in part. Every case without a `refusal` rule has it; a case about
    /// refusing states it.
    NoRefusal {},
    /// Content: of all agents but the one asked, the answer names this one only.
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
    /// Content: the answer makes one call, to this tool, with exactly these arguments. A call that the words around it take
    /// back does not count.
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
            Rule::ContainsEach { .. } => "contains_each",
            Rule::ContainsNone { .. } => "contains_none",
            Rule::Regex { .. } => "regex",
            Rule::RegexNone { .. } => "regex_none",
            Rule::Json { .. } => "json",
            Rule::Choice { .. } => "choice",
            Rule::Number { .. } => "number",
            Rule::Time { .. } => "time",
            Rule::YesNo { .. } => "yes_no",
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
                | Rule::RegexNone { .. }
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
            Rule::ContainsEach { groups } => {
                let blank = |words: &Vec<String>| {
                    words.is_empty() || words.iter().any(|w| !w.chars().any(char::is_alphanumeric))
                };
                match groups.iter().find(|words| blank(words)) {
                    _ if groups.is_empty() => {
                        refuse("groups", "expected at least one group of words, found none")
                    }
                    Some(words) => refuse("groups", &format!("expected words, found {words:?}")),
                    None => Ok(()),
                }
            }
            Rule::Choice { is, others } => {
                let blank = |words: &&String| !words.chars().any(char::is_alphanumeric);
                if is.is_empty() {
                    return refuse("is", "expected at least one word, found none");
                }
                match is.iter().chain(others).find(blank) {
                    Some(word) => refuse("is", &format!("expected a word, found {word:?}")),
                    None => Ok(()),
                }
            }
            Rule::Time { is } if clock::minutes(is).is_none() => {
                refuse("is", &format!("expected a time of day such as 07:10, found {is:?}"))
            }
            Rule::Regex { pattern } | Rule::RegexNone { pattern }
                if compile(pattern)?.is_match("") =>
            {
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

/// Compiles the pattern of a `regex` rule.
pub(super) fn compile(pattern: &str) -> Result<Regex> {
    RegexBuilder::new(pattern)
        .case_insensitive(true)
        .build()
        .map_err(|e| Error::Rule { field: "pattern", problem: e.to_string() })
}
