//! What stands beside the words: calls of tools, their declarations, further keys. Control tokens are only taken out there.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::report::Tally;
use super::walk;
use crate::draft::{Chat, Draft};
use crate::raw::Raw;
use crate::{family, tool_calls};

/// Takes control tokens out of a row's declarations and further keys.
pub(super) fn strip(chat: &mut Chat<'_>, notes: &mut Tally) {
    // They hold none, as a rule; then nothing is built anew.
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
        // What is left of a key may not pass for the row itself.
        map.retain(|key, _| key != "messages" && key != "tools");
        chat.meta = map.into();
    }
}

/// Takes control tokens out of a message's calls and names.
pub(super) fn strip_message(message: &mut Draft<'_>, notes: &mut Tally) {
    for name in [&mut message.name, &mut message.tool_call_id].into_iter().flatten() {
        if let Some(clean) = walk::strip(name, notes) {
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

fn strip_text(text: &mut String, notes: &mut Tally) {
    if let Some(clean) = walk::strip(text, notes) {
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
