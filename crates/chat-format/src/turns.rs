//! Finds the turns of a conversation in its rendering.
//!
//! The conversation is rendered with marks: private-use characters that occur nowhere else, around every text of a message and
//! wherever a loop of the template comes to a message. Without the marks the result must equal the plain rendering; else
//! the marks changed what the template does, and they are not used.

mod marks;

use std::cmp::Reverse;
use std::ops::Range;

use serde_json::Value;

use crate::disguise::Disguise;
use crate::tokenizer::{Ending, common_prefix};
use crate::{ChatTokenizer, Conversation, Error, Message, RenderOptions, Result, ToolCall};
use marks::{Marking, Marks, Part, PartKind, texts_in};

/// A rendered conversation and where the texts of its messages are in it. Offsets are in bytes of `text`.
pub(crate) struct Rendering {
    pub(crate) text: String,
    pub(crate) disguise: Disguise,
    /// Every text of a message, in the order of the rendering.
    parts: Vec<Part>,
    /// Where the template's loops come to which message.
    turns: Vec<(usize, usize)>,
    controls: Vec<(Range<usize>, u32)>,
    marking: Marking,
}

impl Rendering {
    /// Renders a conversation and finds its texts.
    pub(crate) fn new(
        tokenizer: &ChatTokenizer,
        conversation: &Conversation,
        options: &RenderOptions,
    ) -> Result<Self> {
        let tools = match conversation.tools.is_empty() {
            true => &options.tools,
            false => &conversation.tools,
        };
        let view = |message| tokenizer.template_view(message, options);
        let views: Vec<Value> = conversation.messages.iter().map(view).collect();
        let marks = 1 + views.len() + views.iter().map(texts_in).sum::<usize>();
        let ([messages, tools], disguise) = tokenizer.disguised(views, tools, marks)?;
        let render =
            |messages| tokenizer.render(messages, tools.clone(), options, Ending::Complete);
        let text = render(messages.clone())?;
        let mut changed = Error::MarkedRendering;
        for marking in Marking::ATTEMPTS {
            let (marked, marks) = Marks::set(&messages, marking, disguise.spare())?;
            match render(marked).map(|marked| marks.read(&marked)) {
                Ok((same, parts, turns)) if same == text => {
                    let pieces = tokenizer.pieces(&text).into_iter();
                    let controls =
                        pieces.filter_map(|piece| Some((piece.range, piece.control?))).collect();
                    return Ok(Self { text, disguise, parts, turns, controls, marking });
                }
                Ok(_) => {}
                Err(error) => changed = error,
            }
        }
        Err(changed)
    }

    /// The ranges of an assistant's turn that the model writes: its words and calls, from where the generation prompt `header`
    /// ends to the token that ends the turn. More than one if the template writes a tool's result between them.
    pub(crate) fn turn(
        &self,
        tokenizer: &ChatTokenizer,
        index: usize,
        message: &Message,
        header: &str,
    ) -> Result<Vec<Range<usize>>> {
        let refuse = |reason| Error::Turn { message: index, reason };
        self.complete(index, message).map_err(refuse)?;
        let mut own =
            self.parts.iter().filter(|part| part.message == index).map(|part| &part.range);
        let Some(first) = own.next() else {
            return Err(refuse("it has neither words nor calls to train"));
        };
        let last = own.next_back().unwrap_or(first);
        let mut spans = Vec::new();
        let mut start = Some(self.start(index, first.start, header).map_err(refuse)?);
        let mut done = first.start;
        let within = |part: &&Part| (first.start..=last.start).contains(&part.range.start);
        for part in self.parts.iter().filter(within) {
            match (part.message == index, start) {
                (false, Some(from)) => {
                    let end = self.before_nested(tokenizer, done, &part.range).ok_or_else(|| {
                        refuse("the template writes another message inside it, without a token that opens that one")
                    })?;
                    spans.push(from..end);
                    start = None;
                }
                (true, None) => {
                    start = Some(self.after_nested(done, part.range.start).ok_or_else(|| {
                        refuse("the template writes another message inside it, without a token that closes that one")
                    })?);
                }
                _ => {}
            }
            done = part.range.end;
        }
        spans.extend(start.map(|start| start..self.end(tokenizer, index, last.end)));
        if spans.iter().any(|span| span.is_empty() || self.holds_other_text(span, index)) {
            return Err(refuse("the template mixes its words with another message's"));
        }
        Ok(spans)
    }

    /// Where the template's loop comes to a message before it writes its first text.
    pub(crate) fn beginning(&self, index: usize) -> Option<usize> {
        let first = self.parts.iter().find(|part| part.message == index)?.range.start;
        self.turn_mark(index, first)
    }

    /// Checks that every text of a turn is in the rendering, its words once.
    fn complete(&self, index: usize, message: &Message) -> Result<(), &'static str> {
        let count = |kind| {
            self.parts.iter().filter(|part| part.message == index && part.kind == kind).count()
        };
        match (message.content.trim().is_empty(), count(PartKind::Content)) {
            (true, 0) | (false, 1) => {}
            (_, 0) => return Err("the template leaves out its words"),
            _ => return Err("the template writes its words more than once"),
        }
        // Without marks in the names, a call whose arguments hold no text cannot be looked for.
        let visible = |call: &ToolCall| self.marking.names || holds_text(&call.arguments);
        let mut calls = message.tool_calls.iter().enumerate();
        match calls.any(|(n, call)| visible(call) && count(PartKind::Call(n)) == 0) {
            true => Err("the template leaves out one of its calls"),
            false => Ok(()),
        }
    }

    /// Where the last text before `position` ends.
    fn last_text_before(&self, position: usize) -> usize {
        let ends = self.parts.iter().map(|part| part.range.end);
        ends.filter(|&end| end <= position).max().unwrap_or(0)
    }

    /// The last place before `first` where a loop comes to the message, with no text in between.
    fn turn_mark(&self, index: usize, first: usize) -> Option<usize> {
        let between = self.last_text_before(first)..=first;
        let marks = self.turns.iter().filter(|&&(_, message)| message == index);
        marks.map(|&(at, _)| at).filter(|at| between.contains(at)).max()
    }

    /// Where the model's own writing begins: after as much of the generation prompt as is in the row.
    fn start(&self, index: usize, first: usize, header: &str) -> Result<usize, &'static str> {
        let mark = self.turn_mark(index, first);
        let from = mark.unwrap_or_else(|| self.last_text_before(first));
        let places: Vec<usize> = match mark {
            Some(mark) => {
                let controls = self.controls_in(from..first).map(|(range, _)| range.start);
                std::iter::once(mark).chain(controls).collect()
            }
            None => self.text[from..first].char_indices().map(|(at, _)| from + at).collect(),
        };
        let shared = places.into_iter().map(|at| (self.shared_header(header, at, first), at));
        // The longest; the first one if several are as long.
        match shared.max_by_key(|&(length, at)| (length, Reverse(at))) {
            Some((length, at)) if length > 0 => {
                let end = at + length;
                Ok(end + self.end_of_block(end, &header[length..]))
            }
            // The template may close here what the message before has opened.
            _ if mark.is_some() => Ok(self.after_closing(from, first)),
            _ => Err("the template does not show where it begins"),
        }
    }

    /// How much at a place is the end of `block`, an empty block of thinking that the template opens in the generation prompt
    /// but in no finished turn (DeepSeek V3.2).
    pub(crate) fn end_of_block(&self, at: usize, block: &str) -> usize {
        let mut here = self.controls.iter().filter(|(range, _)| range.start == at);
        let end = here.find_map(|(range, _)| {
            let close = &self.text[range.clone()];
            let (open, _) = block.rsplit_once(close)?;
            is_pair(open.trim(), close).then(|| &block[open.len()..])
        });
        end.filter(|end| self.text[at..].starts_with(end)).map_or(0, str::len)
    }

    /// How much of `header` is at a place, in whole control tokens.
    pub(crate) fn shared_header(&self, header: &str, at: usize, first: usize) -> usize {
        let end = at + common_prefix(header, &self.text[at..first]);
        let cut = self.controls.iter().find(|(range, _)| range.start < end && end < range.end);
        cut.map_or(end, |(range, _)| range.start).saturating_sub(at)
    }

    /// After the control tokens at `from` that close something opened before.
    fn after_closing(&self, from: usize, to: usize) -> usize {
        let mut end = from;
        for (range, _) in self.controls_in(from..to) {
            if !self.text[end..range.start].trim().is_empty() || !self.closes(range, from) {
                break;
            }
            end = range.end;
        }
        end
    }

    /// Where a turn ends: after the first token that ends turns, else before the next message.
    fn end(&self, tokenizer: &ChatTokenizer, index: usize, from: usize) -> usize {
        let later = self.parts.iter().map(|part| part.range.start).filter(|&start| start >= from);
        let limit = later.min().unwrap_or(self.text.len());
        let next = self.turns.iter().filter(|&&(at, message)| message != index && at >= from);
        let next = next.map(|&(at, _)| at).min().unwrap_or(limit).min(limit);
        let stop = self.controls_in(from..limit).find(|(_, id)| tokenizer.ends_turn(*id));
        match stop {
            // A template may write the token with the next message.
            Some((range, _)) if self.text[next.min(range.start)..range.start].trim().is_empty() => {
                range.end
            }
            _ => self.controls_in(from..next).last().map_or(next, |(range, _)| range.end),
        }
    }

    /// Where the template leaves a turn for another message's text: after a token that ends the turn, or before the one that
    /// opens the other.
    fn before_nested(
        &self,
        tokenizer: &ChatTokenizer,
        from: usize,
        nested: &Range<usize>,
    ) -> Option<usize> {
        let before = self.controls_in(from..nested.start);
        if let Some((range, _)) = before.clone().find(|(_, id)| tokenizer.ends_turn(*id)) {
            return Some(range.end);
        }
        let opens = |range: &Range<usize>| {
            let mut after = self.controls_in(nested.end..self.text.len());
            after.any(|(close, _)| is_pair(&self.text[range.clone()], &self.text[close.clone()]))
        };
        before.map(|(range, _)| range).find(|range| opens(range)).map(|range| range.start)
    }

    /// Where a turn goes on after another message's text: after the last control token in between that closes something.
    fn after_nested(&self, from: usize, to: usize) -> Option<usize> {
        let mut controls = self.controls_in(from..to).map(|(range, _)| range);
        controls.rfind(|range| self.closes(range, from)).map(|range| range.end)
    }

    /// Whether a control token closes one of those before `from`.
    fn closes(&self, close: &Range<usize>, from: usize) -> bool {
        let close = &self.text[close.clone()];
        self.controls_in(0..from).any(|(open, _)| is_pair(&self.text[open.clone()], close))
    }

    fn controls_in(
        &self,
        range: Range<usize>,
    ) -> impl DoubleEndedIterator<Item = &(Range<usize>, u32)> + Clone {
        let inside = move |control: &&(Range<usize>, u32)| {
            control.0.start >= range.start && control.0.end <= range.end
        };
        self.controls.iter().filter(inside)
    }

    /// Whether a range of the rendering holds a text of another message than `index`.
    fn holds_other_text(&self, span: &Range<usize>, index: usize) -> bool {
        let touches = |part: &Part| part.range.start < span.end && span.start < part.range.end;
        self.parts.iter().any(|part| part.message != index && touches(part))
    }
}

/// Whether a value holds a text that is not blank.
fn holds_text(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(items) => items.iter().any(holds_text),
        Value::Object(fields) => fields.values().any(holds_text),
        _ => false,
    }
}

/// Whether one control token opens what the other closes: `<tool_call>` and `</tool_call>`, `<|tool_call>` and
/// `<tool_call|>`, `[TOOL_RESULTS]` and `[/TOOL_RESULTS]`, `<|START_THINKING|>` and `<|END_THINKING|>`.
pub(crate) fn is_pair(open: &str, close: &str) -> bool {
    open != close && stem(open) == stem(close)
}

/// The name in a control token, without punctuation, without "begin" or "end" behind it, and without "start" or "end" before it.
fn stem(token: &str) -> String {
    let mark = |c: char| !c.is_alphanumeric();
    let inner = token.trim_matches(mark).to_lowercase();
    let inner = inner.trim_start_matches("start_").trim_start_matches("end_");
    inner.trim_end_matches("begin").trim_end_matches("end").trim_matches(mark).to_owned()
}
