use std::fmt;

use serde::{Deserialize, Serialize};

/// What a row teaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A fact of the household.
    Fact,
    /// Which agent answers for a matter.
    Topic,
    /// What lies behind a sign.
    Scenario,
    /// A tool call.
    Tool,
    /// Several of these in one conversation.
    Dialogue,
    /// A request declined.
    Refusal,
    /// A harmless request in the frame of an attack, answered.
    Twin,
    /// A request of two halves, one answered and one declined.
    Partial,
    /// Who the agent is.
    Identity,
    /// Work passed on, or taken over.
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

/// What is known about a row besides its words; kept as extra fields of the row in every file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// What the row teaches.
    pub kind: Kind,
    /// The agent that answers.
    pub agent: String,
    /// The technique whose frame the question uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub technique: Option<String>,
    /// The subject of the request inside that frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The entry of a data file that the row is made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    /// The way of asking, shared by rows about different items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phrasing: Option<String>,
}

impl Meta {
    /// The least that every row knows.
    pub fn new(kind: Kind, agent: impl Into<String>) -> Self {
        let agent = agent.into();
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

/// One generated conversation, before it takes the form of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The system prompt.
    pub system: String,
    /// The exchanges, in order.
    pub exchanges: Vec<Exchange>,
    /// What is known about the row.
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

    /// Everything said in the row, without the system prompt.
    pub fn said(&self) -> String {
        let parts =
            self.exchanges.iter().flat_map(|exchange| [&*exchange.user, &*exchange.assistant]);
        parts.collect::<Vec<_>>().join("\n")
    }
}
