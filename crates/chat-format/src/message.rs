use std::fmt;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::Problem;
use crate::raw::{Fields, Raw};

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
    /// Its arguments: an object, or the text as it stood where that was not JSON.
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

    /// Reads a message; `at` is where it stands in its row, for the error.
    pub(crate) fn from_raw(raw: Raw<'_>, at: At<'_>) -> Result<Self, Problem> {
        let mut fields = match raw {
            Raw::Object(fields) => fields,
            other => {
                let expected = "an object with `role` and `content`";
                return Err(Problem::value(at.to_string(), expected, &other.into()));
            }
        };
        let role = match fields.take("role") {
            Some(Raw::Text(name)) => Role::parse(&name)
                .ok_or_else(|| Problem::new(format!("{at}.role"), ROLES, format!("{name:?}")))?,
            Some(other) => return Err(Problem::value(format!("{at}.role"), ROLES, &other.into())),
            None => return Err(Problem::missing(format!("{at}.role"), ROLES)),
        };
        let tool_calls = tool_calls(fields.take("tool_calls"), at)?;
        let content = match fields.take("content") {
            Some(value) => content(value, at, !tool_calls.is_empty())?,
            None if !tool_calls.is_empty() => String::new(),
            None => return Err(Problem::missing(format!("{at}.content"), "a text")),
        };
        // `weight` is the same wish in OpenAI's fine-tuning files.
        let train = match (fields.take("train"), fields.take("weight")) {
            (None | Some(Raw::Null), None | Some(Raw::Null)) => None,
            (Some(Raw::Bool(train)), _) => Some(train),
            (None, Some(Raw::Number(weight))) => Some(weight.as_f64() != Some(0.0)),
            (Some(other), _) | (None, Some(other)) => {
                return Err(Problem::value(format!("{at}.train"), "true or false", &other.into()));
            }
        };
        Ok(Message {
            role,
            content,
            reasoning_content: text(&mut fields, "reasoning_content", at)?,
            tool_calls,
            name: text(&mut fields, "name", at)?,
            tool_call_id: text(&mut fields, "tool_call_id", at)?,
            train,
        })
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

/// A conversation whose other keys are as they stood in their line.
#[derive(Debug)]
pub(crate) struct Chat<'a> {
    pub(crate) messages: Vec<Message>,
    pub(crate) tools: Vec<Value>,
    pub(crate) meta: Fields<'a>,
}

impl<'a> Chat<'a> {
    pub(crate) fn from_fields(mut fields: Fields<'a>) -> Result<Self, Problem> {
        let messages = match fields.take("messages") {
            Some(Raw::Array(items)) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| Message::from_raw(item, At::item("messages", index)))
                .collect::<Result<Vec<_>, _>>()?,
            Some(other) => {
                return Err(Problem::value("messages", "an array of messages", &other.into()));
            }
            None => return Err(Problem::missing("messages", "an array of messages")),
        };
        if messages.is_empty() {
            return Err(Problem::new("messages", "at least one message", "an empty array"));
        }
        let tools = match fields.take("tools") {
            None | Some(Raw::Null) => Vec::new(),
            Some(Raw::Array(tools)) => tools.into_iter().map(Value::from).collect(),
            Some(other) => {
                return Err(Problem::value("tools", "an array of declarations", &other.into()));
            }
        };
        Ok(Chat { messages, tools, meta: fields })
    }
}

impl From<Chat<'_>> for Conversation {
    fn from(chat: Chat<'_>) -> Self {
        Conversation { messages: chat.messages, tools: chat.tools, meta: chat.meta.into() }
    }
}

/// As a [`Conversation`] is written.
impl Serialize for Chat<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("messages", &self.messages)?;
        if !self.tools.is_empty() {
            map.serialize_entry("tools", &self.tools)?;
        }
        for (key, value) in self.meta.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// A place in a row, spelled out only where an error names it: `messages`, or one of its items.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    list: &'a str,
    index: Option<usize>,
}

impl<'a> At<'a> {
    pub(crate) fn item(list: &'a str, index: usize) -> Self {
        At { list, index: Some(index) }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "{}[{index}]", self.list),
            None => f.write_str(self.list),
        }
    }
}

impl TryFrom<Value> for Conversation {
    type Error = Problem;

    fn try_from(value: Value) -> Result<Self, Problem> {
        match value {
            Value::Object(fields) => Chat::from_fields(fields.into()).map(Conversation::from),
            other => Err(Problem::value("", "an object with `messages`", &other)),
        }
    }
}

impl TryFrom<Value> for Message {
    type Error = Problem;

    fn try_from(value: Value) -> Result<Self, Problem> {
        Message::from_raw(value.into(), At { list: "message", index: None })
    }
}

impl TryFrom<Value> for ToolCall {
    type Error = Problem;

    fn try_from(value: Value) -> Result<Self, Problem> {
        tool_call(value, "tool_call")
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
        Role::parse(&name)
            .ok_or_else(|| serde::de::Error::custom(format!("expected {ROLES}, found {name:?}")))
    }
}

const ROLES: &str = "one of system, user, assistant, tool";

/// The words of a message: a text, or the list of text parts some programs write. `null` is common beside tool calls.
fn content(raw: Raw<'_>, at: At<'_>, may_be_null: bool) -> Result<String, Problem> {
    match raw {
        Raw::Text(text) => Ok(text.into_owned()),
        Raw::Null if may_be_null => Ok(String::new()),
        Raw::Array(parts) => {
            parts.into_iter().enumerate().try_fold(String::new(), |text, (index, part)| {
                let part = Value::from(part);
                match (part.get("type").and_then(Value::as_str), part.get("text")) {
                    (Some("text"), Some(Value::String(words))) => Ok(text + words),
                    _ => {
                        let at = format!("{at}.content[{index}]");
                        Err(Problem::value(at, "a text part", &part))
                    }
                }
            })
        }
        other => Err(Problem::value(format!("{at}.content"), "a text", &other.into())),
    }
}

fn text(fields: &mut Fields<'_>, key: &str, at: At<'_>) -> Result<Option<String>, Problem> {
    match fields.take(key) {
        None | Some(Raw::Null) => Ok(None),
        Some(Raw::Text(text)) => Ok(Some(text.into_owned())),
        Some(other) => Err(Problem::value(format!("{at}.{key}"), "a text", &other.into())),
    }
}

fn tool_calls(raw: Option<Raw<'_>>, at: At<'_>) -> Result<Vec<ToolCall>, Problem> {
    match raw {
        None | Some(Raw::Null) => Ok(Vec::new()),
        Some(Raw::Array(calls)) => calls
            .into_iter()
            .enumerate()
            .map(|(index, call)| tool_call(call.into(), &format!("{at}.tool_calls[{index}]")))
            .collect(),
        Some(other) => {
            Err(Problem::value(format!("{at}.tool_calls"), "an array of calls", &other.into()))
        }
    }
}

/// Reads `{"id", "type", "function": {"name", "arguments"}}`, or the inner object alone.
fn tool_call(mut value: Value, at: &str) -> Result<ToolCall, Problem> {
    let id = value.get("id").and_then(Value::as_str).map(str::to_owned);
    if let Some(function) = value.get_mut("function") {
        value = function.take();
    }
    let name = match value.get_mut("name").map(Value::take) {
        Some(Value::String(name)) => name,
        Some(other) => return Err(Problem::value(format!("{at}.name"), "a text", &other)),
        None => return Err(Problem::missing(format!("{at}.name"), "the function's name")),
    };
    let arguments = match value.get_mut("arguments").map(Value::take) {
        None | Some(Value::Null) => Value::Object(Map::new()),
        // OpenAI writes the object as text.
        Some(Value::String(text)) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        Some(arguments) => arguments,
    };
    Ok(ToolCall { id, name, arguments })
}
