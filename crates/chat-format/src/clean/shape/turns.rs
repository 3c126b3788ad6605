//! Puts together the turns of an answer that is stored in pieces: reasoning, words, calls and their results.

use std::borrow::Cow;

use crate::raw::{Fields, Raw};

/// Turns in the form of OpenAI's messages.
#[derive(Default)]
pub(super) struct Turns<'a> {
    turns: Vec<Raw<'a>>,
    reasoning: Vec<Cow<'a, str>>,
    words: Vec<Cow<'a, str>>,
    calls: Vec<Raw<'a>>,
}

impl<'a> Turns<'a> {
    /// Adds a whole message.
    pub(super) fn message(&mut self, message: Fields<'a>) {
        self.flush();
        self.turns.push(Raw::Object(message));
    }

    /// Adds a message that may not be an object.
    pub(super) fn raw(&mut self, message: Raw<'a>) {
        self.flush();
        self.turns.push(message);
    }

    pub(super) fn reasoning(&mut self, text: Cow<'a, str>) {
        if !self.words.is_empty() || !self.calls.is_empty() {
            self.flush();
        }
        self.reasoning.push(text);
    }

    pub(super) fn words(&mut self, text: Cow<'a, str>) {
        if !self.calls.is_empty() {
            self.flush();
        }
        self.words.push(text);
    }

    pub(super) fn call(&mut self, id: Option<Raw<'a>>, name: Raw<'a>, arguments: Raw<'a>) {
        let function = object([("name", name), ("arguments", arguments)]);
        let mut call =
            object([("type", Raw::Text("function".into())), ("function", Raw::Object(function))]);
        if let Some(id) = id {
            call.insert("id", id);
        }
        self.calls.push(Raw::Object(call));
    }

    /// Adds the result of a call.
    pub(super) fn result(&mut self, id: Option<Raw<'a>>, content: Cow<'a, str>) {
        let mut result = message("tool", content);
        if let Some(id) = id {
            result.insert("tool_call_id", id);
        }
        self.message(result);
    }

    pub(super) fn finish(mut self) -> Vec<Raw<'a>> {
        self.flush();
        self.turns
    }

    /// Ends the assistant's turn. Its pieces are paragraphs.
    fn flush(&mut self) {
        if self.reasoning.is_empty() && self.words.is_empty() && self.calls.is_empty() {
            return;
        }
        let mut turn = message("assistant", join(std::mem::take(&mut self.words)));
        if !self.reasoning.is_empty() {
            turn.insert("reasoning_content", Raw::Text(join(std::mem::take(&mut self.reasoning))));
        }
        if !self.calls.is_empty() {
            turn.insert("tool_calls", Raw::Array(std::mem::take(&mut self.calls)));
        }
        self.turns.push(Raw::Object(turn));
    }
}

pub(super) fn message<'a>(role: &'static str, content: Cow<'a, str>) -> Fields<'a> {
    turn(Raw::Text(role.into()), Raw::Text(content))
}

/// A message whose role and content may be of any type.
pub(super) fn turn<'a>(role: Raw<'a>, content: Raw<'a>) -> Fields<'a> {
    object([("role", role), ("content", content)])
}

fn object<'a, const N: usize>(fields: [(&'static str, Raw<'a>); N]) -> Fields<'a> {
    fields.into_iter().map(|(key, value)| (Cow::Borrowed(key), value)).collect()
}

fn join(mut pieces: Vec<Cow<'_, str>>) -> Cow<'_, str> {
    match pieces.len() {
        0 | 1 => pieces.pop().unwrap_or_default(),
        _ => pieces.join("\n\n").into(),
    }
}
