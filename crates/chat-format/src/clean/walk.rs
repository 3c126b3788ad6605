//! Splits marked-up text into messages, from one control token to the next.

use std::borrow::Cow;

use super::report::{Event, Tally};
use super::{Options, place_reasoning, strip};
use crate::draft::{At, Draft};
use crate::family::{self, Effect, FAMILIES, Found};
use crate::problem::quote;
use crate::reasoning::Parts;
use crate::tool_calls::{self, ToolResult};
use crate::{Problem, Role, ToolCall};

/// Whether `text` starts with a turn, after white space and beginning-of-text tokens.
pub(super) fn is_conversation(text: &str) -> bool {
    let mut done = 0;
    // After a beginning-of-text token, system text may come before the first turn.
    let mut words_allowed = false;
    for found in family::find(text) {
        let blank = text[done..found.start].trim().is_empty();
        if !blank && !words_allowed {
            return false;
        }
        match found.mark.effect {
            Effect::Turn(_) => return true,
            Effect::Header(ends) => return !matches!(header(text, found.end, ends), Header::None),
            Effect::Begin if blank => words_allowed = true,
            Effect::Other | Effect::End if blank => {}
            _ => return false,
        }
        done = found.end;
    }
    false
}

/// Splits a marked-up conversation and appends its messages to `messages`.
pub(super) fn conversation<'t>(
    text: &'t str,
    at: At<'_>,
    options: Options,
    notes: &mut Tally,
    messages: &mut Vec<Draft<'t>>,
) -> Result<(), Problem> {
    let mut walk = Walk { at, options, notes, family: None, turn: None, messages };
    let mut done = 0;
    for found in family::find(text) {
        // The end token of a header was skipped with the header.
        if found.start < done {
            continue;
        }
        walk.words(&text[done..found.start])?;
        done = walk.mark(found, text)?;
    }
    walk.words(&text[done..])?;
    // A turn left open is truncated data, or a generation prompt if it has no text.
    if walk.turn.as_ref().is_some_and(Turn::has_text) {
        walk.notes.note(Event::UnclosedTurn);
        walk.close()?;
    }
    Ok(())
}

/// The state while one conversation is split.
struct Walk<'a, 't> {
    at: At<'a>,
    options: Options,
    notes: &'a mut Tally,
    /// The family of the first turn. Turn tokens of other families are text that imitates markup.
    family: Option<usize>,
    turn: Option<Turn<'t>>,
    messages: &'a mut Vec<Draft<'t>>,
}

impl<'t> Walk<'_, 't> {
    fn words(&mut self, words: &'t str) -> Result<(), Problem> {
        match &mut self.turn {
            Some(turn) => turn.push(words),
            None if words.trim().is_empty() => {}
            // Text before the first turn is a system message.
            None if self.family.is_none() => {
                self.messages.push(Draft::new(Role::System, words.trim()))
            }
            None => {
                return Err(problem(self.at, "words inside turns only", quote(words.trim())));
            }
        }
        Ok(())
    }

    /// Acts on a control token and returns where the text continues.
    fn mark(&mut self, found: Found, text: &'t str) -> Result<usize, Problem> {
        self.notes.note(Event::Removed(found.mark.id));
        let ours = self.family.is_none_or(|family| family == found.mark.family);
        match found.mark.effect {
            Effect::Turn(role) if ours => {
                self.open(role, found.mark.family)?;
                Ok(found.end)
            }
            Effect::Header(ends) if ours => match header(text, found.end, ends) {
                Header::Role(role, end) => {
                    // Families with headers have end tokens, and this turn lacks its own.
                    if self.turn.as_ref().is_some_and(Turn::has_text) {
                        self.notes.note(Event::UnclosedTurn);
                    }
                    self.open(role, found.mark.family)?;
                    Ok(end)
                }
                Header::Unknown(name) => {
                    let known = "a turn of system, user, assistant or tool";
                    Err(problem(self.at, known, format!("a turn of {name:?}")))
                }
                Header::None => Ok(found.end),
            },
            Effect::End if ours => {
                self.close()?;
                Ok(found.end)
            }
            Effect::Response if ours && self.turn.as_ref().is_none_or(Turn::may_hold_result) => {
                let outer = self.turn.as_ref().map_or(Role::Assistant, |turn| turn.role);
                self.close()?;
                self.turn = Some(Turn { outer: Some(outer), ..Turn::new(Role::Tool) });
                Ok(found.end)
            }
            Effect::EndResponse if self.turn.as_ref().is_some_and(|turn| turn.outer.is_some()) => {
                let outer = self.turn.as_ref().and_then(|turn| turn.outer);
                self.close()?;
                self.turn = outer.map(|role| Turn { resumed: true, ..Turn::new(role) });
                Ok(found.end)
            }
            _ => Ok(match &mut self.turn {
                Some(turn) => turn.follow(&found, text, self.notes),
                None => found.end,
            }),
        }
    }

    fn open(&mut self, role: Role, family: usize) -> Result<(), Problem> {
        if self.family.replace(family).is_none() {
            self.notes.note(Event::Family(FAMILIES[family].name));
        }
        self.close()?;
        self.turn = Some(Turn::new(role));
        Ok(())
    }

    fn close(&mut self) -> Result<(), Problem> {
        if let Some(turn) = self.turn.take() {
            self.messages.extend(turn.finish(self.at, self.options, self.notes)?);
        }
        Ok(())
    }
}

/// Cleans the content of one message.
pub(super) fn single<'t>(
    message: &'t Draft<'_>,
    at: At<'_>,
    options: Options,
    notes: &mut Tally,
) -> Result<Option<Draft<'t>>, Problem> {
    let message = message.borrow();
    let thought = message.reasoning_content.as_deref();
    // Fast path: messages without markup are kept as they are, white space included.
    if !family::is_in(&message.content) && !thought.is_some_and(family::is_in) {
        let words = !message.content.is_empty() || !message.tool_calls.is_empty();
        return Ok(words.then(|| place_reasoning(message, options)));
    }
    let mut turn = Turn::new(message.role);
    // Owned, so that `scrub` removes its control tokens: unlike the content it is not split at them here.
    turn.text.reasoning = Cow::Owned(message.reasoning_content.unwrap_or_default().into_owned());
    turn.calls = message.tool_calls;
    let Cow::Borrowed(text) = message.content else { return Ok(None) };
    let mut done = 0;
    for found in family::find(text) {
        turn.push(&text[done.min(found.start)..found.start]);
        notes.note(Event::Removed(found.mark.id));
        done = turn.follow(&found, text, notes);
    }
    turn.push(&text[done..]);
    Ok(turn.finish(at, options, notes)?.map(|cleaned| Draft {
        name: message.name,
        tool_call_id: message.tool_call_id,
        train: message.train,
        ..cleaned
    }))
}

enum Header<'a> {
    Role(Role, usize),
    Unknown(&'a str),
    None,
}

fn problem(at: At<'_>, expected: &str, found: impl Into<String>) -> Problem {
    Problem::new(format!("{at}.content"), expected, found)
}

/// Reads the role after a header's token. `start` is its byte offset; it ends with one of `ends`, or with the text.
fn header<'a>(text: &'a str, start: usize, ends: &[&str]) -> Header<'a> {
    const LONGEST: usize = 32;
    let space = [' ', '\t', '\r'];
    let opening = text[start..].trim_start_matches(space);
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let name = &opening[..opening.find(|c| !is_word(c)).unwrap_or(opening.len())];
    let rest = opening[name.len()..].trim_start_matches(space);
    let rest = match ends.iter().find_map(|end| rest.strip_prefix(end)) {
        Some(rest) => rest,
        None if rest.is_empty() => rest,
        None => return Header::None,
    };
    if name.is_empty() || name.len() > LONGEST {
        return Header::None;
    }
    match Role::parse(name) {
        Some(role) => Header::Role(role, text.len() - rest.len()),
        None => Header::Unknown(name),
    }
}

/// A turn being read. Each part is a slice of the text unless a control token was removed from inside it.
struct Turn<'t> {
    role: Role,
    /// For a tool result: the role of the turn that contains it.
    outer: Option<Role>,
    /// Whether it continues after a tool result. It may be empty then.
    resumed: bool,
    text: Parts<'t>,
    /// The text between the tokens of a call.
    call: Cow<'t, str>,
    in_call: bool,
    calls: Vec<ToolCall>,
}

impl<'t> Turn<'t> {
    fn new(role: Role) -> Self {
        Turn {
            role,
            outer: None,
            resumed: false,
            text: Parts::default(),
            call: Cow::default(),
            in_call: false,
            calls: Vec::new(),
        }
    }

    fn push(&mut self, text: &'t str) {
        match self.in_call {
            true => self.call += text,
            false => self.text.push(text),
        }
    }

    fn has_text(&self) -> bool {
        let texts = [&self.text.answer, &self.text.reasoning, &self.call];
        texts.iter().any(|text| !text.trim().is_empty()) || !self.calls.is_empty()
    }

    /// Whether a tool result may begin here: after an assistant's call (Gemma 4), or at the start of a turn (Qwen).
    /// Anywhere else its token is removed like any other, and the text after it belongs to the turn.
    fn may_hold_result(&self) -> bool {
        match self.role {
            Role::Assistant => !self.calls.is_empty() || self.in_call,
            _ => !self.has_text(),
        }
    }

    /// Acts on a control token inside the turn and returns where the text continues.
    fn follow(&mut self, found: &Found, text: &str, notes: &mut Tally) -> usize {
        // The notation of a tool result may contain this token. `finish` removes it if the text is anything else.
        if self.role == Role::Tool && found.mark.effect == Effect::Other {
            self.text.answer.to_mut().push_str(found.mark.literal);
        }
        if self.role != Role::Assistant {
            return found.end;
        }
        match found.mark.effect {
            Effect::Think(_) => {
                notes.note(Event::Reasoning);
                self.in_call = false;
                self.text.open();
            }
            Effect::EndThink => {
                self.in_call = false;
                if !self.text.close() {
                    notes.note(Event::UnopenedReasoning);
                }
            }
            Effect::Call => {
                // Mistral's calls end where the next one begins.
                if self.in_call {
                    self.end_call();
                }
                self.text.leave();
                self.in_call = true;
            }
            Effect::EndCall => self.end_call(),
            // Gemma's quotation marks and the separators of Mistral and DeepSeek are part of the call's notation.
            Effect::Other if self.in_call => self.call.to_mut().push_str(found.mark.literal),
            _ => {}
        }
        found.content_start(text)
    }

    /// Parses the call. Text that is not a call is returned to the message.
    fn end_call(&mut self) {
        let text = std::mem::take(&mut self.call);
        match tool_calls::parse(&text) {
            Some(calls) => self.calls.extend(calls),
            None => self.text.answer.to_mut().push_str(&text),
        }
        self.text.leave();
        self.in_call = false;
    }

    fn finish(
        mut self,
        at: At<'_>,
        options: Options,
        notes: &mut Tally,
    ) -> Result<Option<Draft<'t>>, Problem> {
        if self.in_call {
            self.end_call();
        } else if self.text.is_open() {
            notes.note(Event::UnclosedReasoning);
        }
        let result = match self.role {
            Role::Tool => ToolResult::parse(self.text.answer.trim()),
            _ => None,
        };
        let ToolResult { name, call_id, content } = result.unwrap_or_default();
        let words = scrub(content.map_or(self.text.answer, Cow::Owned), notes);
        let thought = scrub(self.text.reasoning, notes);
        if words.is_empty() && self.calls.is_empty() {
            if self.role == Role::Assistant && !self.resumed {
                let found = if thought.is_empty() { "an empty turn" } else { "reasoning only" };
                return Err(problem(at, "an answer in every assistant turn", found));
            }
            return Ok(None);
        }
        let mut message = Draft::new(self.role, words);
        message.tool_calls = self.calls;
        message.name = name.map(Cow::Owned);
        message.tool_call_id = call_id.map(Cow::Owned);
        message.reasoning_content = Some(thought);
        Ok(Some(place_reasoning(message, options)))
    }
}

/// Trims a text and removes the control tokens that formed where others were removed.
fn scrub<'t>(text: Cow<'t, str>, notes: &mut Tally) -> Cow<'t, str> {
    match text {
        // A slice between two control tokens, so it contains none.
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => {
            let text = strip::text(&text, notes).unwrap_or(text);
            Cow::Owned(text.trim().to_owned())
        }
    }
}
