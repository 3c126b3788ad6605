//! The shapes in which data sets keep a chat.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::report::{Event, Tally};
use crate::message::{At, Chat};
use crate::raw::{Fields, Raw};
use crate::{Message, Problem, Role};

/// How a row keeps its chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Shape {
    /// `messages`: `role` and `content`, OpenAI's tool calls included.
    Messages,
    /// `conversations`: `from` and `value`, as ShareGPT has it.
    Conversations,
    /// `instruction`, `input`, `output`, as Alpaca has it.
    Alpaca,
    /// `prompt` and `completion`.
    PromptCompletion,
    /// `text`: one marked-up conversation.
    Text,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Shape::Messages => "messages",
            Shape::Conversations => "conversations",
            Shape::Alpaca => "instruction and output",
            Shape::PromptCompletion => "prompt and completion",
            Shape::Text => "text",
        })
    }
}

pub(super) fn read<'a>(raw: Raw<'a>, notes: &mut Tally) -> Result<Chat<'a>, Problem> {
    let mut fields = match raw {
        Raw::Object(fields) => fields,
        other => return Err(Problem::value("", "a JSON object", &other.into())),
    };
    let (shape, messages) = if fields.has("messages") {
        notes.note(Event::Shape(Shape::Messages));
        return Chat::from_fields(fields);
    } else if fields.has("conversations") {
        (Shape::Conversations, conversations(&mut fields)?)
    } else if fields.has("instruction") {
        (Shape::Alpaca, alpaca(&mut fields)?)
    } else if fields.has("prompt") {
        (Shape::PromptCompletion, prompt_completion(&mut fields)?)
    } else if fields.has("text") {
        (Shape::Text, whole_text(&mut fields)?)
    } else {
        let known = "`messages`, `conversations`, `instruction`, `prompt` or `text`";
        let keys: Vec<_> = fields.keys().take(8).map(|key| format!("`{key}`")).collect();
        let found = if keys.is_empty() { "no key".to_owned() } else { keys.join(", ") };
        return Err(Problem::new("", known, found));
    };
    notes.note(Event::Shape(shape));
    let tools = match fields.take("tools") {
        Some(Raw::Array(tools)) => tools.into_iter().map(Value::from).collect(),
        _ => Vec::new(),
    };
    Ok(Chat { messages, tools, meta: fields })
}

fn conversations(fields: &mut Fields<'_>) -> Result<Vec<Message>, Problem> {
    let turns = match fields.take("conversations") {
        Some(Raw::Array(turns)) if !turns.is_empty() => turns,
        other => {
            let found = other.unwrap_or(Raw::Null).into();
            return Err(Problem::value("conversations", "a list of turns", &found));
        }
    };
    let mut messages =
        optional(fields, "system")?.map(Message::system).into_iter().collect::<Vec<_>>();
    for (index, mut turn) in turns.into_iter().enumerate() {
        // The same message under other names.
        if let Raw::Object(keys) = &mut turn {
            for (theirs, ours) in [("from", "role"), ("value", "content")] {
                if let Some(value) = keys.take(theirs) {
                    keys.insert(ours, value);
                }
            }
        }
        messages.push(Message::from_raw(turn, At::item("conversations", index))?);
    }
    Ok(messages)
}

fn alpaca(fields: &mut Fields<'_>) -> Result<Vec<Message>, Problem> {
    let mut messages =
        optional(fields, "system")?.map(Message::system).into_iter().collect::<Vec<_>>();
    let instruction = required(fields, "instruction")?;
    let question = match optional(fields, "input")? {
        Some(input) => format!("{instruction}\n\n{input}"),
        None => instruction,
    };
    messages.extend([Message::user(question), Message::assistant(required(fields, "output")?)]);
    Ok(messages)
}

fn prompt_completion(fields: &mut Fields<'_>) -> Result<Vec<Message>, Problem> {
    let mut messages = Vec::new();
    for (key, role) in [("prompt", Role::User), ("completion", Role::Assistant)] {
        match fields.take(key) {
            Some(Raw::Array(items)) => {
                for (index, item) in items.into_iter().enumerate() {
                    messages.push(Message::from_raw(item, At::item(key, index))?);
                }
            }
            other => messages.push(Message::new(role, text(other, key)?)),
        }
    }
    Ok(messages)
}

fn whole_text(fields: &mut Fields<'_>) -> Result<Vec<Message>, Problem> {
    let text = required(fields, "text")?;
    if !super::walk::is_conversation(&text) {
        return Err(Problem::new("text", "a conversation in a model's markup", "plain text"));
    }
    Ok(vec![Message::user(text)])
}

fn required(fields: &mut Fields<'_>, key: &str) -> Result<String, Problem> {
    text(fields.take(key), key)
}

fn text(field: Option<Raw<'_>>, key: &str) -> Result<String, Problem> {
    match field {
        Some(Raw::Text(text)) => Ok(text.into_owned()),
        Some(other) => Err(Problem::value(key, "a text", &other.into())),
        None => Err(Problem::missing(key, "a text")),
    }
}

/// A text that may be absent, null or empty.
fn optional(fields: &mut Fields<'_>, key: &str) -> Result<Option<String>, Problem> {
    match fields.take(key) {
        None | Some(Raw::Null) => Ok(None),
        Some(Raw::Text(text)) => Ok(Some(text.into_owned()).filter(|text| !text.is_empty())),
        Some(other) => Err(Problem::value(key, "a text", &other.into())),
    }
}
