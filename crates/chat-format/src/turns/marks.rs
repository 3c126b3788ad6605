//! Marks in the texts that a template renders, and reading them back.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use serde_json::Value;

use crate::template::TURN_MARK;
use crate::{Error, Result};

/// A text of a message in the rendering.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) message: usize,
    pub(super) kind: PartKind,
    pub(super) range: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PartKind {
    Content,
    Reasoning,
    /// The name of a call, or a text among its arguments.
    Call(usize),
}

/// Which marks are set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marking {
    /// Around the names of calls. A template that compares them with other texts cannot have these.
    pub(super) names: bool,
    /// Where a loop comes to a message. A template that writes whole messages as JSON cannot have these.
    turns: bool,
}

impl Marking {
    pub(super) const ATTEMPTS: [Marking; 3] = [
        Marking { names: true, turns: true },
        Marking { names: false, turns: true },
        Marking { names: false, turns: false },
    ];
}

#[derive(Debug, Clone, Copy)]
enum Mark {
    Turn(usize),
    Open { message: usize, kind: PartKind },
}

/// The marks of a rendering: which character means what.
pub(super) struct Marks<'s> {
    meanings: HashMap<char, Mark>,
    close: char,
    spare: std::slice::Iter<'s, char>,
}

impl<'s> Marks<'s> {
    /// Messages with marks made of the characters `spare`.
    pub(super) fn set(
        messages: &Value,
        marking: Marking,
        spare: &'s [char],
    ) -> Result<(Value, Self)> {
        let mut spare = spare.iter();
        let close = *spare.next().ok_or(Error::NoStandIn)?;
        let mut marks = Self { meanings: HashMap::new(), close, spare };
        let mut marked = messages.clone();
        for (index, message) in marked.as_array_mut().into_iter().flatten().enumerate() {
            marks.set_in_message(message, index, marking)?;
        }
        Ok((marked, marks))
    }

    fn set_in_message(&mut self, view: &mut Value, message: usize, marking: Marking) -> Result<()> {
        let open = |kind| Mark::Open { message, kind };
        self.around(&mut view["content"], open(PartKind::Content))?;
        if let Some(reasoning) = view.get_mut("reasoning_content") {
            self.around(reasoning, open(PartKind::Reasoning))?;
        }
        let calls = view.get_mut("tool_calls").and_then(Value::as_array_mut);
        for (number, call) in calls.into_iter().flatten().enumerate() {
            let open = open(PartKind::Call(number));
            if marking.names {
                self.around(&mut call["function"]["name"], open)?;
            }
            self.around(&mut call["function"]["arguments"], open)?;
        }
        if marking.turns {
            view[TURN_MARK] = Value::String(self.mark(Mark::Turn(message))?.to_string());
        }
        Ok(())
    }

    /// Sets marks around each text of a value, inside of its outer white space, which templates may trim.
    fn around(&mut self, value: &mut Value, open: Mark) -> Result<()> {
        match value {
            Value::String(text) if !text.trim().is_empty() => {
                let start = text.len() - text.trim_start().len();
                text.insert(text.trim_end().len(), self.close);
                text.insert(start, self.mark(open)?);
                Ok(())
            }
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.around(item, open)),
            Value::Object(fields) => {
                fields.values_mut().try_for_each(|field| self.around(field, open))
            }
            _ => Ok(()),
        }
    }

    fn mark(&mut self, meaning: Mark) -> Result<char> {
        let mark = *self.spare.next().ok_or(Error::NoStandIn)?;
        self.meanings.insert(mark, meaning);
        Ok(mark)
    }

    /// A marked rendering without its marks, the texts between them, and where loops come to messages.
    pub(super) fn read(&self, marked: &str) -> (String, Vec<Part>, Vec<(usize, usize)>) {
        let mut text = String::with_capacity(marked.len());
        let (mut parts, mut turns, mut open) = (Vec::new(), Vec::new(), None);
        let mut seen = HashSet::new();
        for c in marked.chars() {
            match self.meanings.get(&c) {
                Some(&Mark::Turn(message)) => turns.push((text.len(), message)),
                Some(&Mark::Open { message, kind }) => {
                    // Templates repeat a call's name with its result: the first is the call.
                    let again = !seen.insert(c) && matches!(kind, PartKind::Call(_));
                    open = (!again).then_some((message, kind, text.len()));
                }
                None if c == self.close => {
                    parts.extend(open.take().map(|(message, kind, start)| Part {
                        message,
                        kind,
                        range: start..text.len(),
                    }))
                }
                None => text.push(c),
            }
        }
        (text, parts, turns)
    }
}

/// How many texts a value holds, at most.
pub(super) fn texts_in(value: &Value) -> usize {
    match value {
        Value::String(_) => 1,
        Value::Array(items) => items.iter().map(texts_in).sum(),
        Value::Object(fields) => fields.values().map(texts_in).sum(),
        _ => 0,
    }
}
