//! Where the turns of a conversation are in its rendering.
//!
//! The conversation is rendered with marks: private-use characters that occur nowhere else, around every text of a message and
//! at the place where the template's loop comes to a message. Without the marks the text must equal the plain rendering,
//! or the marks changed what the template does and nothing they say is used.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use serde_json::Value;

use crate::disguise::Disguise;
use crate::tokenizer::{Ending, common_prefix};
use crate::turn_marks::TURN_MARK;
use crate::{ChatTokenizer, Conversation, Error, Message, RenderOptions, Result, ToolCall};

/// A rendered conversation and where the texts of its messages are in it. Offsets are in bytes of `text`.
pub(crate) struct Rendering {
    pub(crate) text: String,
    pub(crate) disguise: Disguise,
    /// Every text of a message, in the order of the rendering.
    parts: Vec<Located>,
    /// Where the template's loops come to a message.
    turns: Vec<(usize, usize)>,
    controls: Vec<(Range<usize>, u32)>,
    marking: Marking,
}

/// A text of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    message: usize,
    kind: PartKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PartKind {
    Content,
    Reasoning,
    /// The name of a call, or a text among its arguments.
    Call(usize),
}

#[derive(Debug, Clone)]
struct Located {
    part: Part,
    range: Range<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Mark {
    Turn(usize),
    Open(Part),
    Close,
}

/// Which marks are set. A template that compares a call's name with another text cannot be given marks inside the name, and
/// one that writes messages out as JSON none beside their keys.
#[derive(Debug, Clone, Copy)]
struct Marking {
    names: bool,
    turns: bool,
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
        let views: Vec<Value> = conversation
            .messages
            .iter()
            .map(|message| tokenizer.view_of(message, options))
            .collect();
        let spare = views.iter().map(texts_in).sum::<usize>() * 2 + views.len() + 1;
        let (hidden, mut disguise) = tokenizer.hidden(views, tools, spare)?;
        let render = |messages: &Value| {
            tokenizer.render(messages.clone(), hidden[1].clone(), options, Ending::Complete)
        };
        let text = render(&hidden[0])?;
        let close = disguise.spare()?;
        let mut marks = Marks { meanings: HashMap::from([(close, Mark::Close)]), close, disguise };
        let mut changed = None;
        for (names, turns) in [(true, true), (false, true), (false, false)] {
            let marking = Marking { names, turns };
            let marked = marks.set(&hidden[0], marking)?;
            match render(&marked).map(|marked| marks.read(&marked)) {
                Ok((same, parts, turns)) if same == text => {
                    let pieces = tokenizer.pieces(&text).into_iter();
                    let control =
                        |piece: crate::tokenizer::Piece| Some((piece.range, piece.control?));
                    let controls = pieces.filter_map(control).collect();
                    let disguise = marks.disguise;
                    return Ok(Self { text, disguise, parts, turns, controls, marking });
                }
                Ok(_) => {}
                Err(error) => changed = Some(error),
            }
        }
        Err(changed.unwrap_or(Error::MarkedRendering))
    }

    /// The ranges of an assistant's turn that the model writes: its words and calls, from where the generation prompt `header`
    /// leaves off to the token that ends the turn. More than one where the template writes a tool's result between them.
    pub(crate) fn turn(
        &self,
        tokenizer: &ChatTokenizer,
        index: usize,
        message: &Message,
        header: &str,
    ) -> Result<Vec<Range<usize>>> {
        let refuse = |reason| Error::Turn { message: index, reason };
        self.complete(index, message).map_err(refuse)?;
        let own: Vec<&Located> = self.parts.iter().filter(|p| p.part.message == index).collect();
        let (Some(first), Some(last)) = (own.first(), own.last()) else {
            return Err(refuse("it has neither words nor calls to train"));
        };
        let mut spans = Vec::new();
        let mut start = self.start(index, first.range.start, header).map_err(refuse)?;
        let mut done = start;
        for part in self.parts.iter().filter(|p| p.range.start >= first.range.start) {
            if part.part.message == index {
                if start == usize::MAX {
                    start = self.behind_nested(done, part.range.start).ok_or_else(|| {
                        refuse("the template writes another turn inside it, without a token that ends that one")
                    })?;
                }
                done = part.range.end;
                if part.range == last.range {
                    break;
                }
            } else {
                if start != usize::MAX {
                    let end = self.before_nested(tokenizer, done, part).ok_or_else(|| {
                        refuse("the template writes another turn inside it, without a token that begins that one")
                    })?;
                    spans.push(start..end);
                    start = usize::MAX;
                }
                done = part.range.end;
            }
        }
        spans.push(start..self.end(tokenizer, index, last.range.end));
        Ok(spans)
    }

    /// Where a turn begins, and how much of the generation prompt stands there.
    pub(crate) fn beginning(&self, index: usize) -> Option<usize> {
        let first = self.parts.iter().find(|part| part.part.message == index)?.range.start;
        self.turn_mark(index, first)
    }

    /// Whether each text of a turn stands in the rendering, once and in order.
    fn complete(&self, index: usize, message: &Message) -> Result<(), &'static str> {
        let count = |kind| {
            let part = Part { message: index, kind };
            self.parts.iter().filter(|found| found.part == part).count()
        };
        let words = count(PartKind::Content);
        match (message.content.trim().is_empty(), words) {
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

    /// The last place before `first` where a loop comes to the message, with no other message's text between.
    fn turn_mark(&self, index: usize, first: usize) -> Option<usize> {
        let before = self.parts.iter().map(|part| part.range.end).filter(|&end| end <= first);
        let other = before.max().unwrap_or(0);
        let marks = self.turns.iter().filter(|&&(at, message)| message == index && at <= first);
        marks.map(|&(at, _)| at).max().filter(|&at| at >= other)
    }

    /// Where the model's own writing begins: behind the generation prompt, as far as it stands in the row.
    fn start(&self, index: usize, first: usize, header: &str) -> Result<usize, &'static str> {
        let mark = self.turn_mark(index, first);
        let before = self.parts.iter().map(|part| part.range.end).filter(|&end| end <= first);
        let from = mark.unwrap_or(before.max().unwrap_or(0));
        let anywhere = self.text[from..first].char_indices().map(|(at, _)| from + at);
        let controls = self.controls_in(from..first).map(|(range, _)| range.start);
        let heads: Vec<usize> = match mark {
            Some(mark) => std::iter::once(mark).chain(controls).collect(),
            None => anywhere.collect(),
        };
        let heads = heads.into_iter().map(|at| (self.common_prefix(header, at, first), at));
        // The longest; of those alike the first.
        match heads.max_by_key(|&(length, at)| (length, std::cmp::Reverse(at))) {
            Some((length, at)) if length > 0 => Ok(at + length),
            // The template may close here what the message before has opened.
            _ if mark.is_some() => Ok(self.behind_closing(from, first)),
            _ => Err("the template does not show where it begins"),
        }
    }

    /// How much of `header` stands at a place, in whole control tokens.
    fn common_prefix(&self, header: &str, at: usize, first: usize) -> usize {
        let shared = common_prefix(header, &self.text[at..first]);
        let cut =
            |range: &&(Range<usize>, u32)| range.0.start < at + shared && at + shared < range.0.end;
        self.controls.iter().find(cut).map_or(shared, |(range, _)| range.start.saturating_sub(at))
    }

    /// Behind the control tokens at `from` that close something opened before.
    fn behind_closing(&self, from: usize, to: usize) -> usize {
        let mut end = from;
        for (range, _) in self.controls_in(from..to) {
            let gap = &self.text[end..range.start];
            if !gap.trim().is_empty() || !self.closes(&self.text[range.clone()], from) {
                break;
            }
            end = range.end;
        }
        end
    }

    /// Whether a token closes one of those before `from`.
    fn closes(&self, close: &str, from: usize) -> bool {
        let mut before = self.controls_in(0..from).map(|(range, _)| &self.text[range.clone()]);
        before.any(|open| close != open && name(close) == name(open))
    }

    /// Behind the first token after `from` that ends the turn. Where the template has none, before the next message.
    fn end(&self, tokenizer: &ChatTokenizer, index: usize, from: usize) -> usize {
        let later = self.parts.iter().map(|part| part.range.start).filter(|&start| start >= from);
        let limit = later.min().unwrap_or(self.text.len());
        let next = self.turns.iter().filter(|&&(at, message)| message != index && at >= from);
        let next = next.map(|&(at, _)| at).min().unwrap_or(limit).min(limit);
        let stop = self.controls_in(from..limit).find(|(_, id)| tokenizer.ends_turn(*id));
        match stop {
            // A template may write the token with the next message.
            Some((range, _))
                if self.text[from.max(next.min(range.start))..range.start].trim().is_empty() =>
            {
                range.end
            }
            _ => self.controls_in(from..next).last().map_or(next, |(range, _)| range.end),
        }
    }

    /// Where the template leaves a turn for another message's text: behind a token that ends the turn, or before the one that
    /// opens the other.
    fn before_nested(
        &self,
        tokenizer: &ChatTokenizer,
        from: usize,
        nested: &Located,
    ) -> Option<usize> {
        let mut before = self.controls_in(from..nested.range.start);
        if let Some((range, _)) = before.clone().find(|(_, id)| tokenizer.ends_turn(*id)) {
            return Some(range.end);
        }
        let closes = |open: &str| {
            let behind = self.controls_in(nested.range.end..self.text.len());
            let mut names = behind.map(|(range, _)| &self.text[range.clone()]);
            names.any(|close| close != open && name(close) == name(open))
        };
        before.find(|(range, _)| closes(&self.text[range.clone()])).map(|(range, _)| range.start)
    }

    /// Where a turn goes on behind another message's text: behind the last control token between that closes something.
    fn behind_nested(&self, from: usize, to: usize) -> Option<usize> {
        let mut controls = self.controls_in(from..to).map(|(range, _)| range);
        controls
            .rfind(|range| self.closes(&self.text[(*range).clone()], from))
            .map(|range| range.end)
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
    pub(crate) fn holds_other_text(&self, range: &Range<usize>, index: usize) -> bool {
        let touches = |part: &Located| part.range.start < range.end && range.start < part.range.end;
        self.parts.iter().any(|part| part.part.message != index && touches(part))
    }
}

/// The marks of one conversation.
struct Marks {
    meanings: HashMap<char, Mark>,
    close: char,
    disguise: Disguise,
}

impl Marks {
    /// Messages with marks.
    fn set(&mut self, messages: &Value, marking: Marking) -> Result<Value> {
        let mut marked = messages.clone();
        for (index, message) in marked.as_array_mut().into_iter().flatten().enumerate() {
            let part = |kind| Part { message: index, kind };
            self.around(&mut message["content"], part(PartKind::Content))?;
            if message.get("reasoning_content").is_some() {
                self.around(&mut message["reasoning_content"], part(PartKind::Reasoning))?;
            }
            let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
            for (number, call) in calls.into_iter().flatten().enumerate() {
                let part = part(PartKind::Call(number));
                if marking.names {
                    self.around(&mut call["function"]["name"], part)?;
                }
                self.around(&mut call["function"]["arguments"], part)?;
            }
            if marking.turns {
                let mark = self.mark(Mark::Turn(index))?;
                message[TURN_MARK] = Value::String(mark.to_string());
            }
        }
        Ok(marked)
    }

    /// Marks around each text of a value, inside of its outer white space: templates may trim that.
    fn around(&mut self, value: &mut Value, part: Part) -> Result<()> {
        match value {
            Value::String(text) if !text.trim().is_empty() => {
                let open = self.mark(Mark::Open(part))?;
                let start = text.len() - text.trim_start().len();
                text.insert(text.trim_end().len(), self.close);
                text.insert(start, open);
            }
            Value::Array(items) => {
                for item in items {
                    self.around(item, part)?;
                }
            }
            Value::Object(fields) => {
                for (_, field) in fields.iter_mut() {
                    self.around(field, part)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The character of a mark; the same mark has the same one in every attempt.
    fn mark(&mut self, mark: Mark) -> Result<char> {
        let mark_of = self.disguise.spare()?;
        self.meanings.insert(mark_of, mark);
        Ok(mark_of)
    }

    /// A marked text without its marks, and what they say. Templates repeat a call's name with its result: the first is the call.
    fn read(&self, marked: &str) -> (String, Vec<Located>, Vec<(usize, usize)>) {
        let mut text = String::with_capacity(marked.len());
        let (mut parts, mut turns, mut open) = (Vec::new(), Vec::new(), None);
        let mut seen = HashSet::new();
        for c in marked.chars() {
            match self.meanings.get(&c) {
                None => text.push(c),
                Some(Mark::Turn(message)) => turns.push((text.len(), *message)),
                Some(Mark::Open(part)) => {
                    let again = !seen.insert(c) && matches!(part.kind, PartKind::Call(_));
                    open = (!again).then_some((*part, text.len()));
                }
                Some(Mark::Close) => parts.extend(
                    open.take().map(|(part, start)| Located { part, range: start..text.len() }),
                ),
            }
        }
        (text, parts, turns)
    }
}

/// How many texts a value holds, at most.
fn texts_in(value: &Value) -> usize {
    match value {
        Value::String(_) => 1,
        Value::Array(items) => items.iter().map(texts_in).sum(),
        Value::Object(fields) => fields.values().map(texts_in).sum(),
        _ => 0,
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

/// What a control token is about: `<tool_call>`, `</tool_call>`, `<|tool_call>` and `[/TOOL_CALL]` are about the same.
pub(crate) fn name(token: &str) -> String {
    let inner = token.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let inner = inner.trim_end_matches("begin").trim_end_matches("end");
    inner.trim_matches(|c: char| !c.is_alphanumeric()).to_owned()
}
