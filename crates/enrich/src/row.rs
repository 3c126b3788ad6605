//! Generated rows.

use std::fmt;

use eval::AgentId;
use serde::{Deserialize, Serialize};

/// What a row teaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// A fact of the household.
    Fact,
    /// Which agent is responsible for a topic.
    Topic,
    /// The cause of a symptom.
    Scenario,
    /// A tool call.
    Tool,
    /// Several questions in one conversation.
    Dialogue,
    /// A request declined.
    Refusal,
    /// A harmless request in the frame of an attack, answered.
    Twin,
    /// A harmless and a harmful request in one question, of which only the first is answered.
    Partial,
    /// The agent's identity.
    Identity,
    /// A request answered by the agent asked, or routed to another.
    Routing,
}

impl Kind {
    /// The kind's name in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Fact => "fact",
            Kind::Topic => "topic",
            Kind::Scenario => "scenario",
            Kind::Tool => "tool",
            Kind::Dialogue => "dialogue",
            Kind::Refusal => "refusal",
            Kind::Twin => "twin",
            Kind::Partial => "partial",
            Kind::Identity => "identity",
            Kind::Routing => "routing",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The metadata of a row, written as extra fields of the row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Meta {
    /// What the row teaches.
    pub kind: Kind,
    /// The agent that answers.
    pub agent: AgentId,
    /// The jailbreak technique whose frame the question uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub technique: Option<String>,
    /// The topic of the request inside the frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The entry of a data file that the row is generated from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    /// The phrasing of the question, shared by rows about different items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phrasing: Option<String>,
}

impl Meta {
    /// Metadata with a kind and an agent only.
    pub fn new(kind: Kind, agent: &AgentId) -> Self {
        let agent = agent.clone();
        Meta { kind, agent, technique: None, topic: None, item: None, phrasing: None }
    }
}

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// What the person says.
    pub user: String,
    /// What the agent should say.
    pub assistant: String,
}

/// One generated conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// The system prompt.
    pub system: String,
    /// The exchanges, in order.
    pub exchanges: Vec<Exchange>,
    /// The metadata.
    pub meta: Meta,
}

impl Row {
    /// A row of one exchange.
    pub fn single(
        system: impl Into<String>,
        user: impl Into<String>,
        assistant: impl Into<String>,
        meta: Meta,
    ) -> Self {
        let exchange = Exchange { user: user.into(), assistant: assistant.into() };
        Row { system: system.into(), exchanges: vec![exchange], meta }
    }

    /// All questions and answers, without the system prompt.
    pub fn said(&self) -> String {
        let parts =
            self.exchanges.iter().flat_map(|exchange| [&*exchange.user, &*exchange.assistant]);
        parts.collect::<Vec<_>>().join("\n")
    }
}
