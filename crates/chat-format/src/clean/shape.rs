//! The shapes in which data sets keep a chat.

use serde::Serialize;
use serde_json::{Map, Value};

use super::Notes;
use crate::{Conversation, Message, Problem, Role};

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

pub(super) fn read(raw: Value, notes: &mut Notes) -> Result<Conversation, Problem> {
    let Value::Object(mut fields) = raw else {
        return Err(Problem::value("", "a JSON object", &raw));
    };
    let (shape, messages) = if fields.contains_key("messages") {
        *notes.shapes.entry(Shape::Messages).or_default() += 1;
        return Conversation::from_fields(fields);
    } else if fields.contains_key("conversations") {
        (Shape::Conversations, conversations(&mut fields)?)
    } else if fields.contains_key("instruction") {
        (Shape::Alpaca, alpaca(&mut fields)?)
    } else if fields.contains_key("prompt") {
        (Shape::PromptCompletion, prompt_completion(&mut fields)?)
    } else if fields.contains_key("text") {
        (Shape::Text, whole_text(&mut fields)?)
    } else {
        let known = "`messages`, `conversations`, `instruction`, `prompt` or `text`";
        let keys: Vec<_> = fields.keys().take(8).map(|key| format!("`{key}`")).collect();
        let found = if keys.is_empty() { "no key".to_owned() } else { keys.join(", ") };
        return Err(Problem::new("", known, found));
    };
    *notes.shapes.entry(shape).or_default() += 1;
    let tools = match fields.shift_remove("tools") {
        Some(Value::Array(tools)) => tools,
        _ => Vec::new(),
    };
    Ok(Conversation { messages, tools, meta: fields })
}

fn conversations(fields: &mut Map<String, Value>) -> Result<Vec<Message>, Problem> {
    let turns = match fields.shift_remove("conversations") {
        Some(Value::Array(turns)) if !turns.is_empty() => turns,
        other => {
            let found = other.unwrap_or(Value::Null);
            return Err(Problem::value("conversations", "a list of turns", &found));
        }
    };
    let mut messages =
        optional(fields, "system")?.map(Message::system).into_iter().collect::<Vec<_>>();
    for (index, mut turn) in turns.into_iter().enumerate() {
        // The same message under other names.
        if let Value::Object(keys) = &mut turn {
            for (theirs, ours) in [("from", "role"), ("value", "content")] {
                if let Some(value) = keys.remove(theirs) {
                    keys.insert(ours.to_owned(), value);
                }
            }
        }
        messages.push(Message::from_value(turn, &format!("conversations[{index}]"))?);
    }
    Ok(messages)
}

fn alpaca(fields: &mut Map<String, Value>) -> Result<Vec<Message>, Problem> {
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

fn prompt_completion(fields: &mut Map<String, Value>) -> Result<Vec<Message>, Problem> {
    let side = |fields: &mut Map<String, Value>, key: &str, role: Role| match fields.get(key) {
        Some(Value::Array(_)) => match fields.shift_remove(key) {
            Some(Value::Array(items)) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| Message::from_value(item, &format!("{key}[{index}]")))
                .collect(),
            _ => Ok(Vec::new()),
        },
        _ => Ok(vec![Message::new(role, required(fields, key)?)]),
    };
    let mut messages = side(fields, "prompt", Role::User)?;
    messages.extend(side(fields, "completion", Role::Assistant)?);
    Ok(messages)
}

fn whole_text(fields: &mut Map<String, Value>) -> Result<Vec<Message>, Problem> {
    let text = required(fields, "text")?;
    if !super::walk::is_conversation(&text) {
        return Err(Problem::new("text", "a conversation in a model's markup", "plain text"));
    }
    Ok(vec![Message::user(text)])
}

fn required(fields: &mut Map<String, Value>, key: &str) -> Result<String, Problem> {
    match fields.shift_remove(key) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(Problem::value(key, "a text", &other)),
        None => Err(Problem::missing(key, "a text")),
    }
}

/// A text that may be absent, null or empty.
fn optional(fields: &mut Map<String, Value>, key: &str) -> Result<Option<String>, Problem> {
    match fields.shift_remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(other) => Err(Problem::value(key, "a text", &other)),
    }
}
