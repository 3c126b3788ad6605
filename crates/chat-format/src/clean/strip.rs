//! Removes control tokens from the strings of a row that are not message contents: tool calls, declarations, other keys.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::report::{Event, Tally};
use crate::draft::{Chat, Draft};
use crate::raw::Raw;
use crate::{family, tool_calls};

/// Removes control tokens from a row's tool declarations and other keys.
pub(super) fn row(chat: &mut Chat<'_>, notes: &mut Tally) {
    // Most rows contain none, and are not rebuilt then.
    for tool in &mut chat.tools {
        if tool.any(&family::is_in) {
            let mut value = Value::from(std::mem::take(tool));
            strip_value(&mut value, notes);
            *tool = Raw::from(value);
        }
    }
    if chat.meta.any(&family::is_in) {
        let mut map: Map<String, Value> = std::mem::take(&mut chat.meta).into();
        strip_map(&mut map, notes);
        // A key that becomes `messages` or `tools` once its markup is removed is dropped.
        map.retain(|key, _| key != "messages" && key != "tools");
        chat.meta = map.into();
    }
}

/// Removes control tokens from a message's tool calls, names and ids.
pub(super) fn message(message: &mut Draft<'_>, notes: &mut Tally) {
    for name in [&mut message.name, &mut message.tool_call_id].into_iter().flatten() {
        if let Some(clean) = self::text(name, notes) {
            *name = Cow::Owned(clean);
        }
    }
    for call in &mut message.tool_calls {
        for text in std::iter::once(&mut call.name).chain(&mut call.id) {
            strip_text(text, notes);
        }
        strip_value(&mut call.arguments, notes);
        if let Value::String(text) = &mut call.arguments {
            call.arguments = tool_calls::decode_arguments(std::mem::take(text));
        }
    }
}

/// The text without control tokens, or `None` if it contains none. One pass: after each character the end of the kept text
/// is checked, so tokens that form where others were removed are found too, at any depth.
pub(super) fn text(text: &str, notes: &mut Tally) -> Option<String> {
    family::find(text).next()?;
    let mut kept = String::with_capacity(text.len());
    for c in text.chars() {
        kept.push(c);
        if let Some(mark) = family::ending(&kept) {
            kept.truncate(kept.len() - mark.literal.len());
            notes.note(Event::Removed(mark.id));
        }
    }
    Some(kept)
}

fn strip_text(text: &mut String, notes: &mut Tally) {
    if let Some(clean) = self::text(text, notes) {
        *text = clean;
    }
}

fn strip_value(value: &mut Value, notes: &mut Tally) {
    match value {
        Value::String(text) => strip_text(text, notes),
        Value::Array(items) => items.iter_mut().for_each(|item| strip_value(item, notes)),
        Value::Object(fields) => strip_map(fields, notes),
        _ => {}
    }
}

fn strip_map(fields: &mut Map<String, Value>, notes: &mut Tally) {
    let stripped = std::mem::take(fields).into_iter().map(|(mut key, mut value)| {
        strip_text(&mut key, notes);
        strip_value(&mut value, notes);
        (key, value)
    });
    *fields = stripped.collect();
}
