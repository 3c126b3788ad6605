//! Reads the shapes in which data sets store a conversation.

use std::borrow::Cow;

use super::report::{Event, Shape, Tally};
use crate::draft::{At, Chat, Draft};
use crate::raw::{Fields, Raw};
use crate::{Problem, Role};

/// Reads a row of any shape. Keys that are not part of the shape are kept.
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
        Some(Raw::Array(tools)) => tools,
        _ => Vec::new(),
    };
    Ok(Chat { messages, tools, meta: fields })
}

fn conversations<'a>(fields: &mut Fields<'a>) -> Result<Vec<Draft<'a>>, Problem> {
    let turns = match fields.take("conversations") {
        Some(Raw::Array(turns)) if !turns.is_empty() => turns,
        other => {
            let found = other.unwrap_or(Raw::Null).into();
            return Err(Problem::value("conversations", "a list of turns", &found));
        }
    };
    let mut messages = system(fields)?;
    for (index, mut turn) in turns.into_iter().enumerate() {
        // ShareGPT's names for the same fields.
        if let Raw::Object(keys) = &mut turn {
            for (theirs, ours) in [("from", "role"), ("value", "content")] {
                if let Some(value) = keys.take(theirs) {
                    keys.insert(ours, value);
                }
            }
        }
        messages.push(Draft::from_raw(turn, At::item("conversations", index))?);
    }
    Ok(messages)
}

fn alpaca<'a>(fields: &mut Fields<'a>) -> Result<Vec<Draft<'a>>, Problem> {
    let mut messages = system(fields)?;
    let instruction = required(fields, "instruction")?;
    let question = match optional(fields, "input")? {
        Some(input) => format!("{instruction}\n\n{input}").into(),
        None => instruction,
    };
    let answer = required(fields, "output")?;
    messages.extend([Draft::new(Role::User, question), Draft::new(Role::Assistant, answer)]);
    Ok(messages)
}

fn prompt_completion<'a>(fields: &mut Fields<'a>) -> Result<Vec<Draft<'a>>, Problem> {
    let mut messages = Vec::new();
    for (key, role) in [("prompt", Role::User), ("completion", Role::Assistant)] {
        match fields.take(key) {
            Some(Raw::Array(items)) => {
                for (index, item) in items.into_iter().enumerate() {
                    messages.push(Draft::from_raw(item, At::item(key, index))?);
                }
            }
            other => messages.push(Draft::new(role, text(other, key)?)),
        }
    }
    Ok(messages)
}

fn whole_text<'a>(fields: &mut Fields<'a>) -> Result<Vec<Draft<'a>>, Problem> {
    let text = required(fields, "text")?;
    if !super::walk::is_conversation(&text) {
        return Err(Problem::new("text", "a conversation in a model's markup", "plain text"));
    }
    Ok(vec![Draft::new(Role::User, text)])
}

/// The system message of a shape that has it under a key of its own.
fn system<'a>(fields: &mut Fields<'a>) -> Result<Vec<Draft<'a>>, Problem> {
    let text = optional(fields, "system")?;
    Ok(text.map(|text| Draft::new(Role::System, text)).into_iter().collect())
}

fn required<'a>(fields: &mut Fields<'a>, key: &str) -> Result<Cow<'a, str>, Problem> {
    text(fields.take(key), key)
}

fn text<'a>(field: Option<Raw<'a>>, key: &str) -> Result<Cow<'a, str>, Problem> {
    match field {
        Some(Raw::Text(text)) => Ok(text),
        Some(other) => Err(Problem::value(key, "a text", &other.into())),
        None => Err(Problem::missing(key, "a text")),
    }
}

/// A text that may be absent, null or empty.
fn optional<'a>(fields: &mut Fields<'a>, key: &str) -> Result<Option<Cow<'a, str>>, Problem> {
    match fields.take(key) {
        None | Some(Raw::Null) => Ok(None),
        Some(Raw::Text(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(other) => Err(Problem::value(key, "a text", &other.into())),
    }
}
