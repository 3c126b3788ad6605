use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value, json};

/// The author of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that hold for the whole conversation.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

impl Role {
    /// The list of roles in error messages.
    pub(crate) const EXPECTED: &str = "one of system, user, assistant, tool";

    /// The role by any of the names that data sets and templates use for it (`human`, `gpt`, `model`, `developer`, ...),
    /// in capitals or not.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "system" | "developer" => Role::System,
            "user" | "human" => Role::User,
            "assistant" | "model" | "gpt" | "chatgpt" | "bot" | "chatbot" | "ai" => Role::Assistant,
            "tool" | "function" | "ipython" | "observation" => Role::Tool,
            _ if name.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                return Role::parse(&name.to_ascii_lowercase());
            }
            _ => return None,
        })
    }

    /// The name under which it is written.
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

/// A function call requested by the model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
#[non_exhaustive]
pub struct ToolCall {
    /// Links the call to its result, if the data has such ids.
    pub id: Option<String>,
    /// The name of the function.
    pub name: String,
    /// The arguments: a JSON object, or the original string if it was not an object.
    pub arguments: Value,
}

/// One message of a conversation, without any model's markup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
#[non_exhaustive]
pub struct Message {
    /// The author.
    pub role: Role,
    /// The text.
    pub content: String,
    /// The model's reasoning before the text, if it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// In an assistant's message: the function calls.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// In a tool's message: the function that was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// In a tool's message: the id of the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Whether this message is trained, if that differs from the `Supervision` of the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<bool>,
}

impl ToolCall {
    /// A call without an id.
    pub fn new(name: impl Into<String>, arguments: Map<String, Value>) -> Self {
        ToolCall { id: None, name: name.into(), arguments: Value::Object(arguments) }
    }
}

impl Message {
    /// A message with only a role and a content.
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

    /// A system message.
    pub fn system(content: impl Into<String>) -> Self {
        Message::new(Role::System, content)
    }

    /// A user message.
    pub fn user(content: impl Into<String>) -> Self {
        Message::new(Role::User, content)
    }

    /// An assistant message.
    pub fn assistant(content: impl Into<String>) -> Self {
        Message::new(Role::Assistant, content)
    }
}

/// A conversation: one row of a data set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "Value")]
#[non_exhaustive]
pub struct Conversation {
    /// The messages, in order.
    pub messages: Vec<Message>,
    /// Declarations of the functions the model may call, as JSON schemas.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    /// Every other key of the row, kept as it was.
    #[serde(flatten)]
    pub meta: Map<String, Value>,
}

impl Conversation {
    /// A conversation of these messages, without tools or other keys.
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
