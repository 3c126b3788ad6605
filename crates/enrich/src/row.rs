//! Generated rows.

use std::fmt;

use chat_format::{Conversation, Message, Role, ToolCall};
use eval::AgentId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// A harmless question that sounds alarming, answered.
    Harmless,
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
            Kind::Harmless => "harmless",
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

/// A tool call and its result.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The call.
    pub call: ToolCall,
    /// What the tool returned; none if the conversation ends with the call.
    pub result: Option<String>,
}

/// A question and its answer: words, a tool call, or a tool call, its result and words.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// What the person says.
    pub user: String,
    /// The tool that the agent calls first.
    pub call: Option<Call>,
    /// What the agent should say; empty if it only calls.
    pub assistant: String,
}

impl Exchange {
    /// A question answered in words.
    pub fn said(user: impl Into<String>, assistant: impl Into<String>) -> Self {
        Exchange { user: user.into(), call: None, assistant: assistant.into() }
    }

    /// The exchange as messages; `nth` numbers its call.
    fn messages(&self, nth: usize) -> Vec<Message> {
        let mut messages = vec![Message::user(&self.user)];
        if let Some(Call { call, result }) = &self.call {
            // Mistral's templates ask for ids of nine characters.
            let id = Some(format!("call{:05}", nth + 1));
            let mut asking = Message::assistant("");
            asking.tool_calls = vec![call.clone()];
            asking.tool_calls[0].id = id.clone();
            messages.push(asking);
            if let Some(result) = result {
                let mut answer = Message::new(Role::Tool, result);
                (answer.name, answer.tool_call_id) = (Some(call.name.clone()), id);
                messages.push(answer);
            }
        }
        if !self.assistant.is_empty() {
            messages.push(Message::assistant(&self.assistant));
        }
        messages
    }
}

/// One generated conversation.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Row {
    /// The system prompt.
    pub system: String,
    /// The tools that the agent may call, as OpenAI declares functions.
    pub tools: Vec<Value>,
    /// The exchanges, in order.
    pub exchanges: Vec<Exchange>,
    /// The metadata.
    pub meta: Meta,
    /// A wrong answer to the only question, for a [`Pair`](crate::Pair).
    pub rejected: Option<String>,
}

impl Row {
    /// A row of these exchanges, without tools.
    pub fn new(system: impl Into<String>, exchanges: Vec<Exchange>, meta: Meta) -> Self {
        Row { system: system.into(), tools: Vec::new(), exchanges, meta, rejected: None }
    }

    /// A row of one exchange.
    pub fn single(
        system: impl Into<String>,
        user: impl Into<String>,
        assistant: impl Into<String>,
        meta: Meta,
    ) -> Self {
        Row::new(system, vec![Exchange::said(user, assistant)], meta)
    }

    /// The row with a wrong answer.
    pub fn rejecting(self, wrong: impl Into<String>) -> Self {
        Row { rejected: Some(wrong.into()), ..self }
    }

    /// All questions, calls and answers, without the system prompt.
    pub fn said(&self) -> String {
        let messages = self.exchanges.iter().flat_map(|exchange| exchange.messages(0));
        let parts = messages.flat_map(|message| {
            let calls = message.tool_calls.iter();
            let calls: Vec<_> =
                calls.map(|call| format!("{} {}", call.name, call.arguments)).collect();
            calls.into_iter().chain([message.content])
        });
        parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
    }

    /// The messages, from the system prompt on.
    pub fn messages(&self) -> Vec<Message> {
        let exchanges = self.exchanges.iter().enumerate();
        let exchanges = exchanges.flat_map(|(nth, exchange)| exchange.messages(nth));
        std::iter::once(Message::system(&self.system)).chain(exchanges).collect()
    }

    /// The row as a clean conversation; its metadata becomes extra fields.
    pub fn conversation(&self) -> Conversation {
        let mut conversation = Conversation::new(self.messages());
        conversation.tools = self.tools.clone();
        if let Ok(Value::Object(meta)) = serde_json::to_value(&self.meta) {
            conversation.meta = meta;
        }
        conversation
    }
}
