use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value, json};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that hold for the whole conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

impl Role {
    /// The roles, as errors list them.
    pub(crate) const EXPECTED: &str = "one of system, user, assistant, tool";

    /// The role by any of the names that data sets and templates use for it (`human`, `gpt`, `model`, `developer`, ...).
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "system" | "developer" => Role::System,
            "user" | "human" => Role::User,
            "assistant" | "model" | "gpt" | "bot" => Role::Assistant,
            "tool" | "function" | "ipython" | "observation" => Role::Tool,
            _ => return None,
        })
    }

    /// The name it is written with.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A function the model asks for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
pub struct ToolCall {
    /// Ties the call to its result, where the data has such ids.
    pub id: Option<String>,
    /// The function.
    pub name: String,
    /// Its arguments: an object, or the text as it stood where that was none.
    pub arguments: Value,
}

/// One turn of a conversation, free of any model's markup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The words.
    pub content: String,
    /// What the model thought before them, if that was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The functions an assistant's turn asks for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// In a tool's turn: which function answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// In a tool's turn: which call it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Whether this turn is trained, where that differs from the [`Supervision`](crate::Supervision) of the whole row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<bool>,
}

impl Message {
    /// A message with words and nothing else.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Message {
            role,
            content: content.into(),
            reasoning_content: None,
            tool_calls: Vec::new(),
            name: None,
            tool_call_id: None,
            train: None,
        }
    }

    /// Instructions.
    pub fn system(content: impl Into<String>) -> Self {
        Message::new(Role::System, content)
    }

    /// A person's words.
    pub fn user(content: impl Into<String>) -> Self {
        Message::new(Role::User, content)
    }

    /// A model's words.
    pub fn assistant(content: impl Into<String>) -> Self {
        Message::new(Role::Assistant, content)
    }
}

/// A conversation: what one row of a data set holds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct Conversation {
    /// The turns, in order.
    pub messages: Vec<Message>,
    /// Declarations of the functions the model may call, as JSON schemas.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    /// Every other key of the row, kept as it was.
    #[serde(flatten)]
    pub meta: Map<String, Value>,
}

impl Conversation {
    /// A conversation of these turns, without tools or further keys.
    pub fn new(messages: Vec<Message>) -> Self {
        Conversation { messages, ..Conversation::default() }
    }
}

impl Serialize for ToolCall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut call = Map::new();
        call.extend(self.id.as_ref().map(|id| ("id".to_owned(), json!(id))));
        call.insert("type".to_owned(), json!("function"));
        call.insert(
            "function".to_owned(),
            json!({ "name": self.name, "arguments": self.arguments }),
        );
        call.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Role::parse(&name).ok_or_else(|| {
            serde::de::Error::custom(format!("expected {}, found {name:?}", Role::EXPECTED))
        })
    }
}
