//! Conversations parsed without copying: texts are borrowed from the row, other keys keep their order.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::raw::{Fields, Raw};
use crate::{Conversation, Message, Problem, Role, ToolCall, tool_calls};

/// A [`Message`] whose texts are borrowed from its row where they need no change.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Draft<'a> {
    pub(crate) role: Role,
    pub(crate) content: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_content: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<ToolCall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool_call_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) train: Option<bool>,
}

impl<'a> Draft<'a> {
    /// A message with only a role and a content.
    pub(crate) fn new(role: Role, content: impl Into<Cow<'a, str>>) -> Self {
        Draft {
            role,
            content: content.into(),
            reasoning_content: None,
            tool_calls: Vec::new(),
            name: None,
            tool_call_id: None,
            train: None,
        }
    }

    /// The same message, its texts borrowed from this one.
    pub(crate) fn borrow(&'a self) -> Self {
        let borrow = |text: &'a Option<Cow<'_, str>>| text.as_deref().map(Cow::Borrowed);
        Draft {
            role: self.role,
            content: Cow::Borrowed(&self.content),
            reasoning_content: borrow(&self.reasoning_content),
            tool_calls: self.tool_calls.clone(),
            name: borrow(&self.name),
            tool_call_id: borrow(&self.tool_call_id),
            train: self.train,
        }
    }

    /// Parses a message. `at` is its place in the row, for errors.
    pub(crate) fn from_raw(raw: Raw<'a>, at: At<'_>) -> Result<Self, Problem> {
        let mut fields = match raw {
            Raw::Object(fields) => fields,
            other => {
                let expected = "an object with `role` and `content`";
                return Err(Problem::value(at.to_string(), expected, &other.into()));
            }
        };
        let role = match fields.take("role") {
            Some(Raw::Text(name)) => Role::parse(&name).ok_or_else(|| {
                Problem::new(format!("{at}.role"), Role::EXPECTED, format!("{name:?}"))
            })?,
            Some(other) => {
                return Err(Problem::value(format!("{at}.role"), Role::EXPECTED, &other.into()));
            }
            None => return Err(Problem::missing(format!("{at}.role"), Role::EXPECTED)),
        };
        let tool_calls = calls(fields.take("tool_calls"), at)?;
        let content = match fields.take("content") {
            Some(value) => content(value, at, !tool_calls.is_empty())?,
            None if !tool_calls.is_empty() => Cow::default(),
            None => return Err(Problem::missing(format!("{at}.content"), "a text")),
        };
        // OpenAI's fine-tuning files use `weight`, 0 or 1, for the same purpose.
        let train = match (fields.take("train"), fields.take("weight")) {
            (None | Some(Raw::Null), None | Some(Raw::Null)) => None,
            (Some(Raw::Bool(train)), _) => Some(train),
            (None, Some(Raw::Number(weight))) => Some(weight.as_f64() != Some(0.0)),
            (Some(other), _) | (None, Some(other)) => {
                return Err(Problem::value(format!("{at}.train"), "true or false", &other.into()));
            }
        };
        Ok(Draft {
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

impl TryFrom<Value> for Message {
    type Error = Problem;

    fn try_from(value: Value) -> Result<Self, Problem> {
        Draft::from_raw(value.into(), At::list("message")).map(Message::from)
    }
}

impl From<Draft<'_>> for Message {
    fn from(draft: Draft<'_>) -> Self {
        Message {
            role: draft.role,
            content: draft.content.into_owned(),
            reasoning_content: draft.reasoning_content.map(Cow::into_owned),
            tool_calls: draft.tool_calls,
            name: draft.name.map(Cow::into_owned),
            tool_call_id: draft.tool_call_id.map(Cow::into_owned),
            train: draft.train,
        }
    }
}

/// A [`Conversation`] whose texts are borrowed from its row.
#[derive(Debug)]
pub(crate) struct Chat<'a> {
    pub(crate) messages: Vec<Draft<'a>>,
    pub(crate) tools: Vec<Raw<'a>>,
    pub(crate) meta: Fields<'a>,
}

impl<'a> Chat<'a> {
    pub(crate) fn from_fields(mut fields: Fields<'a>) -> Result<Self, Problem> {
        let messages = match fields.take("messages") {
            Some(Raw::Array(items)) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| Draft::from_raw(item, At::item("messages", index)))
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
            Some(Raw::Array(tools)) => tools,
            Some(other) => {
                return Err(Problem::value("tools", "an array of declarations", &other.into()));
            }
        };
        Ok(Chat { messages, tools, meta: fields })
    }
}

impl From<Chat<'_>> for Conversation {
    fn from(chat: Chat<'_>) -> Self {
        Conversation {
            messages: chat.messages.into_iter().map(Message::from).collect(),
            tools: chat.tools.into_iter().map(Value::from).collect(),
            meta: chat.meta.into(),
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

/// A place in a row, a list or one of its items. It is formatted only when an error names it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    list: &'a str,
    index: Option<usize>,
}

impl<'a> At<'a> {
    pub(crate) fn list(list: &'a str) -> Self {
        At { list, index: None }
    }

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

/// The content of a message: a string, or a list of text parts. `null` is accepted beside tool calls.
fn content<'a>(raw: Raw<'a>, at: At<'_>, may_be_null: bool) -> Result<Cow<'a, str>, Problem> {
    match raw {
        Raw::Text(text) => Ok(text),
        Raw::Null if may_be_null => Ok(Cow::default()),
        Raw::Array(parts) => {
            let mut text = String::new();
            for (index, part) in parts.into_iter().enumerate() {
                let part = Value::from(part);
                match (part.get("type").and_then(Value::as_str), part.get("text")) {
                    (Some("text"), Some(Value::String(words))) => text.push_str(words),
                    _ => {
                        let at = format!("{at}.content[{index}]");
                        return Err(Problem::value(at, "a text part", &part));
                    }
                }
            }
            Ok(text.into())
        }
        other => Err(Problem::value(format!("{at}.content"), "a text", &other.into())),
    }
}

fn text<'a>(
    fields: &mut Fields<'a>,
    key: &str,
    at: At<'_>,
) -> Result<Option<Cow<'a, str>>, Problem> {
    match fields.take(key) {
        None | Some(Raw::Null) => Ok(None),
        Some(Raw::Text(text)) => Ok(Some(text)),
        Some(other) => Err(Problem::value(format!("{at}.{key}"), "a text", &other.into())),
    }
}

fn calls(raw: Option<Raw<'_>>, at: At<'_>) -> Result<Vec<ToolCall>, Problem> {
    match raw {
        None | Some(Raw::Null) => Ok(Vec::new()),
        Some(Raw::Array(calls)) => calls
            .into_iter()
            .enumerate()
            .map(|(index, call)| {
                tool_calls::from_json(call.into(), &format!("{at}.tool_calls[{index}]"))
            })
            .collect(),
        Some(other) => {
            Err(Problem::value(format!("{at}.tool_calls"), "an array of calls", &other.into()))
        }
    }
}
