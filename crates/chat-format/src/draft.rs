//! Conversations parsed without copying: texts are borrowed from the row, other keys keep their order.

pub(crate) mod content;

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::raw::{Fields, Raw};
use crate::{Conversation, Message, Problem, Role, ToolCall};

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
        let mut messages = Vec::with_capacity(1);
        content::messages(raw, at, &mut messages, &mut Vec::new())?;
        match (messages.pop(), messages.is_empty()) {
            (Some(message), true) => Ok(message),
            _ => {
                Err(Problem::new(at.to_string(), "one message", "results of tools among its parts"))
            }
        }
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
    /// A system prompt that stands beside the messages.
    pub(crate) system: Option<Cow<'a, str>>,
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
        Ok(Chat { messages, tools, meta: fields, system: None })
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
    /// The name of the list.
    pub(crate) fn name(&self) -> &'a str {
        self.list
    }

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
