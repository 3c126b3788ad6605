//! The exam as a suite file holds it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An exam as a suite file holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suite {
    /// The exam's name.
    pub name: String,
    /// Changes whenever a case does.
    pub version: String,
    /// The cases.
    pub cases: Vec<Case>,
}

/// One question and how its answer is judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Unique in the suite.
    pub id: String,
    /// What the case examines.
    pub category: String,
    /// The agent that is asked.
    pub agent: String,
    /// Who may have seen the case: gold, extended or held_out.
    pub tier: String,
    /// The system prompt.
    pub system: String,
    /// The conversation.
    pub turns: Vec<Turn>,
    /// How an answer is judged.
    pub rules: Vec<Rule>,
    /// Labels: the technique, the fact, the tool.
    pub tags: Vec<String>,
    /// An answer that must score 1.
    pub pass: String,
    /// An answer that must score 0.
    pub fail: String,
}

/// What somebody says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// Who speaks.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// The kinds of rule that this exam uses; the exam's runner says how each is judged. (Written here again because
/// whoever makes training data should need nothing of whoever runs exams.)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Rule {
    /// Every word is there.
    ContainsAll {
        /// The words.
        words: Vec<String>,
    },
    /// One of the words is there.
    ContainsAny {
        /// The words.
        words: Vec<String>,
    },
    /// None of the words is there.
    ContainsNone {
        /// The words.
        words: Vec<String>,
    },
    /// The number is there.
    Number {
        /// The number.
        value: f64,
    },
    /// The answer declines.
    Refusal,
    /// The answer does not decline.
    NoRefusal,
    /// The answer sends the asker to an agent.
    RoutesTo {
        /// The agent.
        agent: String,
    },
    /// The answer is a call.
    ToolCall {
        /// The tool.
        name: String,
        /// Its arguments, exactly.
        arguments: Map<String, Value>,
    },
}
