//! The walk over a text's control tokens, from left to right.

use std::borrow::Cow;

use super::report::{Event, Tally};
use super::{Options, place_reasoning};
use crate::draft::{At, Draft};
use crate::family::{self, Effect, FAMILIES, Found};
use crate::problem::quote;
use crate::reasoning::Parts;
use crate::tool_calls::{self, ToolResult};
use crate::{Problem, Role, ToolCall};

/// Whether `text` starts with a turn, tokens that open the text and white space aside.
pub(super) fn is_conversation(text: &str) -> bool {
    let mut done = 0;
    // After a token that opens the text, the system's words may come before the first turn.
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

/// Takes a whole conversation apart and adds its messages.
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
        // A header's own end token has been passed already.
        if found.start < done {
            continue;
        }
        walk.words(&text[done..found.start])?;
        done = walk.mark(found, text)?;
    }
    walk.words(&text[done..])?;
    // What is left open is truncated data, or the bare header of a turn yet to be written.
    if walk.turn.as_ref().is_some_and(Turn::has_text) {
        walk.notes.note(Event::UnclosedTurn);
        walk.close()?;
    }
    Ok(())
}

/// The way through one conversation.
struct Walk<'a, 't> {
    at: At<'a>,
    options: Options,
    notes: &'a mut Tally,
    /// Whose markup this is: that of the first turn. Turns of other families are words that imitate markup.
    family: Option<usize>,
    turn: Option<Turn<'t>>,
    messages: &'a mut Vec<Draft<'t>>,
}

impl<'t> Walk<'_, 't> {
    fn words(&mut self, words: &'t str) -> Result<(), Problem> {
        match &mut self.turn {
            Some(turn) => turn.push(words),
            None if words.trim().is_empty() => {}
            // Before the first turn they are the system's.
            None if self.family.is_none() => {
                self.messages.push(Draft::new(Role::System, words.trim()))
            }
            None => {
                return Err(problem(self.at, "words inside turns only", quote(words.trim())));
            }
        }
        Ok(())
    }

    /// Follows a control token and returns where the text goes on.
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
                    // Markup with headers closes its turns; this one was not.
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
            Effect::Response if ours && self.turn.as_ref().is_none_or(Turn::may_be_answered) => {
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

/// Cleans the content of one message whose role is known already.
pub(super) fn single<'t>(
    message: &'t Draft<'_>,
    at: At<'_>,
    options: Options,
    notes: &mut Tally,
) -> Result<Option<Draft<'t>>, Problem> {
    let message = message.borrow();
    let thought = message.reasoning_content.as_deref();
    // Most messages hold no markup at all, and keep their white space.
    if !family::is_in(&message.content) && !thought.is_some_and(family::is_in) {
        let words = !message.content.is_empty() || !message.tool_calls.is_empty();
        return Ok(words.then(|| place_reasoning(message, options)));
    }
    let mut turn = Turn::new(message.role);
    // Not cut out between control tokens like the words, so it may hold some.
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

/// Reads the role that follows a header's token at `start`: it ends with one of `ends`, or with the text.
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

/// A turn being read. Its parts are slices of the text as long as no control token stood inside them.
struct Turn<'t> {
    role: Role,
    /// Whose turn a tool's result stands in.
    outer: Option<Role>,
    /// Whether it goes on after a tool's result; then there need not be any words.
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

    /// Whether a tool's result may stand here: behind an assistant's call (Gemma 4), or at the start of a turn (Qwen).
    /// Anywhere else the token is a stray, and what follows are words.
    fn may_be_answered(&self) -> bool {
        match self.role {
            Role::Assistant => !self.calls.is_empty() || self.in_call,
            _ => !self.has_text(),
        }
    }

    /// Acts on a control token inside the turn, and returns where the text goes on.
    fn follow(&mut self, found: &Found, text: &str, notes: &mut Tally) -> usize {
        // The notation of a tool's result may contain the token. It is removed at the end if the text is no such notation.
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
            // The quotes around a Gemma argument are part of the call's syntax.
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

/// Trims a text and takes out control tokens that only formed when others between their parts were taken out.
fn scrub<'t>(text: Cow<'t, str>, notes: &mut Tally) -> Cow<'t, str> {
    match text {
        // Still a slice of what was read, so not put together from anything.
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => {
            let text = strip(&text, notes).unwrap_or(text);
            Cow::Owned(text.trim().to_owned())
        }
    }
}

/// The text without its control tokens, if it has any. One pass: after each character the end of what is kept so far is
/// looked at, so nesting of any depth costs nothing extra.
pub(super) fn strip(text: &str, notes: &mut Tally) -> Option<String> {
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
