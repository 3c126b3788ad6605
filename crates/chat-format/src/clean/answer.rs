//! Reads reasoning and tool calls out of the marked-up text of an assistant, and results out of that of a tool.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value;

use super::harmony;
use super::report::{Event, Tally};
use crate::draft::Draft;
use crate::family::{self, Effect, Found};
use crate::{ToolCall, tool_calls};

/// Moves the reasoning that a text begins with, and the calls that it ends with, to the fields of the message. Returns
/// whether there were any; the text is unchanged if not. Arguments have the types that `tools` declare.
pub(super) fn read(message: &mut Draft<'_>, tools: &[Value], tally: &mut Tally) -> bool {
    if !family::is_in(&message.content) {
        return false;
    }
    if let Some(answer) = harmony::answer(&message.content, tally) {
        add_reasoning(&mut message.reasoning_content, &answer.reasoning);
        message.tool_calls.extend(answer.calls);
        message.content = Cow::Owned(answer.content);
        return true;
    }
    let text = &message.content;
    let from = reasoning(text, &mut message.reasoning_content, tally);
    let Some(calls) = calls(&text[from..], tools) else {
        if from > 0 {
            cut(&mut message.content, from..usize::MAX);
        }
        return from > 0;
    };
    for &id in &calls.marks {
        tally.note(Event::Removed(id));
    }
    let end = from + calls.start;
    let words = without_frames(text[from..end].trim(), Some(calls.family), tally);
    let start = words.as_ptr() as usize - text.as_ptr() as usize;
    let range = start..start + words.len();
    message.tool_calls.extend(calls.calls);
    cut(&mut message.content, range);
    true
}

/// Takes off the tokens around a tool's result.
pub(super) fn unwrap_result(message: &mut Draft<'_>, tally: &mut Tally) -> bool {
    let text = message.content.trim();
    let Some(open) = family::starting(text, 0) else { return false };
    let Some(close) = family::ending(text) else { return false };
    let pair = open.mark.effect == Effect::Response
        && close.effect == Effect::EndResponse
        && open.mark.family == close.family;
    let Some(inner) = text.get(open.end..text.len() - close.literal.len()) else { return false };
    let nested = |found: Found| matches!(found.mark.effect, Effect::Response | Effect::EndResponse);
    if !pair || family::find(inner).any(nested) {
        return false;
    }
    tally.note(Event::Removed(open.mark.id));
    tally.note(Event::Removed(close.id));
    let inner = inner.trim().to_owned();
    message.content = Cow::Owned(inner.clone());
    message.read_result(&inner);
    true
}

/// Whether a text ends with calls.
pub(super) fn ends_with_calls(text: &str) -> bool {
    calls(text, &[]).is_some()
}

/// Appends a block to the reasoning of a message, unless it is blank.
fn add_reasoning(reasoning: &mut Option<Cow<'_, str>>, block: &str) {
    let block = block.trim();
    if block.is_empty() {
        return;
    }
    match reasoning {
        Some(earlier) if !earlier.trim().is_empty() => {
            let earlier = earlier.to_mut();
            earlier.push_str("\n\n");
            earlier.push_str(block);
        }
        none => *none = Some(Cow::Owned(block.to_owned())),
    }
}

/// Shortens a text to a part of it, trimmed.
fn cut(text: &mut Cow<'_, str>, range: Range<usize>) {
    let end = range.end.min(text.len());
    match text {
        Cow::Borrowed(text) => *text = text[range.start..end].trim(),
        Cow::Owned(text) => *text = text[range.start..end].trim().to_owned(),
    }
}

/// Copies the blocks of reasoning that `text` begins with, and returns where the text after them begins. A block that was
/// never closed runs to the calls that the text ends with, or else to its end.
fn reasoning(text: &str, reasoning: &mut Option<Cow<'_, str>>, tally: &mut Tally) -> usize {
    let mut done = 0;
    loop {
        let start = done + text[done..].len() - text[done..].trim_start().len();
        let open = family::starting(text, start)
            .filter(|found| matches!(found.mark.effect, Effect::Think(_)));
        let Some(open) = open else { return done };
        let from = open.content_start(text);
        let closes = |found: &Found| {
            found.mark.effect == Effect::EndThink && found.mark.family == open.mark.family
        };
        tally.note(Event::Reasoning);
        tally.note(Event::Removed(open.mark.id));
        let (end, after) = match family::find(&text[from..]).find(closes) {
            Some(close) => {
                tally.note(Event::Removed(close.mark.id));
                (from + close.start, from + close.end)
            }
            None => {
                tally.note(Event::UnclosedReasoning);
                let end = calls(&text[from..], &[]).map_or(text.len(), |calls| from + calls.start);
                (end, end)
            }
        };
        add_reasoning(reasoning, &text[from..end]);
        done = after;
    }
}

struct Calls {
    calls: Vec<ToolCall>,
    /// Where the first one begins.
    start: usize,
    family: usize,
    /// Their control tokens.
    marks: Vec<usize>,
}

/// The calls that `text` ends with, read from the last to the first.
fn calls(text: &str, tools: &[Value]) -> Option<Calls> {
    /// The arguments of a call may spell the token that opens one.
    const OPENINGS: usize = 4;
    let wanted = |found: &Found| {
        use Effect::{Call, End, EndCall, Frame};
        matches!(found.mark.effect, Call | EndCall | Frame | End)
    };
    let all: Vec<Found> = family::find(text).filter(wanted).collect();
    let (mut marks, mut end) = (&all[..], text.trim_end().len());
    let mut found: Option<Calls> = None;
    let mut framed = Vec::new();
    // The token that ends the turn of a call, as Llama 3's `<|eom_id|>`, where other turns have none.
    let last =
        marks.split_last().filter(|(last, _)| last.mark.effect == Effect::End && last.end == end);
    let ended = last.map(|(last, rest)| {
        (marks, end) = (rest, last.start);
        framed.push(last.mark.id);
        last.mark.family
    });
    loop {
        end = text[..end].trim_end().len();
        while let [rest @ .., last] = marks
            && last.mark.effect == Effect::Frame
            && last.end == end
        {
            framed.push(last.mark.id);
            (marks, end) = (rest, text[..last.start].trim_end().len());
        }
        let close = marks.last().filter(|last| last.mark.effect == Effect::EndCall);
        let close = close.filter(|last| last.end == end);
        let body_end = close.map_or(end, |close| close.start);
        let fits = |open: &Found| {
            open.mark.effect == Effect::Call
                && close.is_none_or(|close| close.mark.family == open.mark.family)
                && ended.is_none_or(|family| family == open.mark.family)
        };
        let openings = marks.iter().enumerate().rev().filter(|(_, open)| fits(open));
        let call = openings.take(OPENINGS).find_map(|(index, open)| {
            let calls = tool_calls::parse_declared(text.get(open.end..body_end)?, tools)?;
            Some((index, open, calls))
        });
        let Some((index, open, mut calls)) = call else { return found };
        let later = found.get_or_insert_with(|| Calls {
            calls: Vec::new(),
            start: 0,
            family: open.mark.family,
            marks: Vec::new(),
        });
        calls.append(&mut later.calls);
        (later.calls, later.start) = (calls, open.start);
        later.marks.push(open.mark.id);
        later.marks.extend(close.map(|close| close.mark.id));
        later.marks.append(&mut framed);
        (marks, end) = (&marks[..index], open.start);
    }
}

/// The text without the tokens of its family that frame lists of calls and results at its ends.
pub(super) fn without_frames<'t>(
    mut text: &'t str,
    family: Option<usize>,
    tally: &mut Tally,
) -> &'t str {
    let ours = |mark: &family::Mark| mark.effect == Effect::Frame && Some(mark.family) == family;
    while let Some(found) = family::starting(text, 0).filter(|found| ours(found.mark)) {
        tally.note(Event::Removed(found.mark.id));
        text = text[found.end..].trim();
    }
    while let Some(mark) = family::ending(text).filter(|mark| ours(mark)) {
        tally.note(Event::Removed(mark.id));
        text = text[..text.len() - mark.literal.len()].trim();
    }
    text
}
