//! Splits a marked-up conversation into turns, from one turn marker to the next.
//!
//! Only markers that are structure split: those of the family of the first turn, outside code spans, quotations and, where
//! the roles would come out of order otherwise, code fences. All other text of a turn, control tokens included, is kept.

use super::report::{Event, Tally};
use super::{harmony, quoted, settle};
use crate::draft::{At, Draft};
use crate::family::{self, Effect, FAMILIES, Found};
use crate::problem::quote;
use crate::tool_calls::ToolResult;
use crate::{Problem, Role};

/// Whether `text` starts with a turn, after white space and beginning-of-text tokens.
pub(super) fn is_conversation(text: &str) -> bool {
    if harmony::is_conversation(text) {
        return true;
    }
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

/// Splits a marked-up conversation into its turns, whose texts are as they stand between the markers, trimmed.
pub(super) fn conversation<'t>(
    text: &'t str,
    at: At<'_>,
    tally: &mut Tally,
) -> Result<Vec<Draft<'t>>, Problem> {
    if harmony::is_conversation(text) {
        return harmony::conversation(text, at, tally);
    }
    let mut turns = Walk::split(text, at, None);
    let ordered = |turns: &Result<Walk<'_, '_>, _>| turns.as_ref().is_ok_and(Walk::is_ordered);
    if !ordered(&turns)
        && let Some(last_fence) = text.rfind("\n```")
    {
        let fenced = Walk::split(text, at, Some(last_fence));
        if ordered(&fenced) {
            turns = fenced;
        }
    }
    let mut walk = turns?;
    walk.end()?;
    tally.append(walk.tally);
    Ok(walk.messages)
}

/// Whether `text` is a marked-up conversation that ends inside an assistant's turn: a prompt to be completed.
pub(super) fn awaits_answer(text: &str) -> bool {
    if harmony::is_conversation(text) {
        return text.trim_end().ends_with("<|start|>assistant");
    }
    let walk = Walk::split(text, At::list("prompt"), None);
    walk.is_ok_and(|walk| walk.turn.is_some_and(|turn| turn.role == Role::Assistant))
}

/// The state while one conversation is split.
struct Walk<'a, 't> {
    text: &'t str,
    at: At<'a>,
    /// Where the last code fence begins, if markers inside code fences are text.
    last_fence: Option<usize>,
    tally: Tally,
    /// The family of the first turn. Markers of other families are text.
    family: Option<usize>,
    turn: Option<Turn>,
    /// Where the text behind the last marker begins.
    done: usize,
    messages: Vec<Draft<'t>>,
}

/// An open turn.
struct Turn {
    role: Role,
    /// Where its text begins.
    from: usize,
    /// For a tool result: the role of the turn that contains it.
    outer: Option<Role>,
    /// Whether it continues after a tool result. It may be empty then.
    resumed: bool,
    /// How far code fences were counted, and whether one is open there.
    fence: (usize, bool),
}

impl Turn {
    fn new(role: Role, from: usize) -> Self {
        Turn { role, from, outer: None, resumed: false, fence: (from, false) }
    }
}

impl<'a, 't> Walk<'a, 't> {
    fn split(text: &'t str, at: At<'a>, last_fence: Option<usize>) -> Result<Self, Problem> {
        let (tally, messages) = (Tally::default(), Vec::new());
        let mut walk =
            Walk { text, at, last_fence, tally, family: None, turn: None, done: 0, messages };
        for found in family::find(text) {
            // The end token of a header was skipped with the header.
            if found.start < walk.done {
                continue;
            }
            if let Some(end) = walk.mark(&found)? {
                walk.tally.note(Event::Removed(found.mark.id));
                walk.done = end;
            }
        }
        Ok(walk)
    }

    fn is_ordered(&self) -> bool {
        is_ordered(self.messages.iter().map(|message| message.role))
    }

    /// Acts on a control token and returns where the text continues; `None` if the token is text.
    fn mark(&mut self, found: &Found) -> Result<Option<usize>, Problem> {
        let ours = self.family.is_none_or(|family| family == found.mark.family);
        let inside = self.turn.is_some();
        if self.is_quoted(found) {
            return Ok(None);
        }
        match found.mark.effect {
            Effect::Turn(role) if ours && !self.forges(role, found.start) => {
                let over = self.turn_text(found.start).is_some_and(|text| text.trim().is_empty());
                // Llama 2 writes the system prompt inside the first user turn.
                if over && role == Role::System {
                    self.turn = None;
                }
                self.open(role, found.mark.family, found.start, found.end)?;
                Ok(Some(found.end))
            }
            Effect::Header(ends) if ours => match header(self.text, found.end, ends) {
                Header::Role(role, _) if self.forges(role, found.start) => Ok(None),
                Header::Role(role, end) => {
                    // Families with headers have end tokens, and this turn lacks its own.
                    let open = self.turn_text(found.start);
                    if open.is_some_and(|text| !text.trim().is_empty()) {
                        self.tally.note(Event::UnclosedTurn);
                    }
                    self.open(role, found.mark.family, found.start, end)?;
                    Ok(Some(end))
                }
                Header::Unknown(name) if !inside => {
                    let known = "a turn of system, user, assistant or tool";
                    Err(problem(self.at, known, format!("a turn of {name:?}")))
                }
                _ => Ok(None),
            },
            Effect::End
                if ours || self.only_ends_follow(found.end) || self.ends_turn_of_ours(found) =>
            {
                self.close(found.start)?;
                Ok(Some(found.end))
            }
            Effect::Response if ours && self.may_hold_result(found.start) => {
                let outer = self.turn.as_ref().map_or(Role::Assistant, |turn| turn.role);
                match self.turn_text(found.start) {
                    Some(text) if text.trim().is_empty() => self.turn = None,
                    _ => self.close(found.start)?,
                }
                self.turn = Some(Turn { outer: Some(outer), ..Turn::new(Role::Tool, found.end) });
                Ok(Some(found.end))
            }
            Effect::EndResponse if self.turn.as_ref().is_some_and(|turn| turn.outer.is_some()) => {
                let outer = self.turn.as_ref().and_then(|turn| turn.outer);
                self.close(found.start)?;
                self.turn = outer.map(|role| Turn { resumed: true, ..Turn::new(role, found.end) });
                Ok(Some(found.end))
            }
            Effect::Begin | Effect::End | Effect::Other | Effect::Frame if !inside => {
                self.outside(found.start)?;
                Ok(Some(found.end))
            }
            // Llama 2 repeats the token before every round.
            Effect::Begin if ours && self.turn_follows(found.end) => {
                self.close(found.start)?;
                Ok(Some(found.end))
            }
            _ => Ok(None),
        }
    }

    /// A system turn that begins inside an unclosed turn imitates markup.
    fn forges(&self, role: Role, start: usize) -> bool {
        let open = self.turn.as_ref().is_some_and(|turn| turn.role != Role::System);
        role == Role::System
            && open
            && self.turn_text(start).is_some_and(|text| !text.trim().is_empty())
    }

    fn turn_text(&self, end: usize) -> Option<&'t str> {
        self.text.get(self.turn.as_ref()?.from..end)
    }

    /// Whether a tool result may begin here: after an assistant's call (Gemma 4), or at the start of a turn (Qwen).
    fn may_hold_result(&self, start: usize) -> bool {
        let Some(text) = self.turn_text(start) else { return true };
        match self.turn.as_ref().map(|turn| turn.role) {
            Some(Role::Assistant) => super::answer::ends_with_calls(text),
            _ => text.trim().is_empty(),
        }
    }

    fn turn_follows(&self, from: usize) -> bool {
        let next = family::starting(self.text, from + blank_length(&self.text[from..]));
        next.is_some_and(|next| {
            Some(next.mark.family) == self.family
                && matches!(next.mark.effect, Effect::Turn(_) | Effect::Header(_))
        })
    }

    /// Whether another family's end token stands right between the words of the open turn and the next one: Zephyr ends turns
    /// that begin as Phi's with `</s>`.
    fn ends_turn_of_ours(&self, found: &Found) -> bool {
        let words = self.turn_text(found.end).filter(|_| self.turn_follows(found.end));
        words.is_some_and(|words| settle::may_end(words, found.mark))
    }

    fn only_ends_follow(&self, mut from: usize) -> bool {
        loop {
            from += blank_length(&self.text[from..]);
            match family::starting(self.text, from) {
                Some(next) if next.mark.effect == Effect::End => from = next.end,
                _ => return from == self.text.len(),
            }
        }
    }

    /// Whether a token inside the open turn stands in a code span, in quotation marks or in a code fence.
    fn is_quoted(&mut self, found: &Found) -> bool {
        let text = self.text;
        let Some(turn) = &mut self.turn else { return false };
        let (before, after) = (&text[turn.from..found.start], &text[found.end..]);
        if let Some(last) = self.last_fence {
            let (counted, mut open) = turn.fence;
            let lines = text[counted..found.start].split_inclusive('\n');
            for line in lines.filter(|line| line.trim_start().starts_with("```")) {
                open ^= !line.trim()[3..].contains("```");
            }
            turn.fence = (found.start, open);
            if open && last >= found.end {
                return true;
            }
        }
        quoted::is_quoted(before, after)
    }

    fn open(
        &mut self,
        role: Role,
        family: usize,
        start: usize,
        from: usize,
    ) -> Result<(), Problem> {
        match self.turn {
            Some(_) => self.close(start)?,
            None => self.outside(start)?,
        }
        if self.family.replace(family).is_none() {
            self.tally.note(Event::Family(FAMILIES[family].name));
        }
        self.turn = Some(Turn::new(role, from));
        Ok(())
    }

    /// Text outside turns: white space, or a system message before the first turn.
    fn outside(&mut self, end: usize) -> Result<(), Problem> {
        let words = self.text[self.done..end].trim();
        if words.is_empty() {
            return Ok(());
        }
        if self.family.is_some() {
            return Err(problem(self.at, "words inside turns only", quote(words)));
        }
        self.messages.push(Draft::new(Role::System, words));
        Ok(())
    }

    fn close(&mut self, end: usize) -> Result<(), Problem> {
        let Some(turn) = self.turn.take() else { return self.outside(end) };
        let mut words = self.text[turn.from..end].trim();
        if turn.role != Role::User {
            words = super::answer::without_frames(words, self.family, &mut self.tally);
        }
        if turn.resumed && words.is_empty() {
            return Ok(());
        }
        let mut message = Draft::new(turn.role, words);
        if turn.role == Role::Tool {
            message.read_result(words);
        }
        self.messages.push(message);
        Ok(())
    }

    /// Ends the text. A turn left open is truncated data, or a generation prompt if it has no text.
    fn end(&mut self) -> Result<(), Problem> {
        let end = self.text.len();
        match self.turn_text(end) {
            Some(text) if text.trim().is_empty() => self.turn = None,
            Some(_) => {
                self.tally.note(Event::UnclosedTurn);
                self.close(end)?;
            }
            None => self.outside(end)?,
        }
        Ok(())
    }
}

impl Draft<'_> {
    /// Reads the notations of tool results that hold more than the text.
    pub(super) fn read_result(&mut self, text: &str) {
        let Some(ToolResult { name, call_id, content }) = ToolResult::parse(text) else { return };
        self.name = name.map(Into::into).or(self.name.take());
        self.tool_call_id = call_id.map(Into::into).or(self.tool_call_id.take());
        if let Some(content) = content {
            self.content = content.into();
        }
    }
}

/// System turns first, no user turn after a user turn, no answer after an answer.
pub(super) fn is_ordered(roles: impl IntoIterator<Item = Role>) -> bool {
    let mut last = Role::System;
    roles.into_iter().all(|role| {
        let before = std::mem::replace(&mut last, role);
        match role {
            Role::System => before == Role::System,
            Role::User | Role::Assistant => before != role,
            Role::Tool => true,
        }
    })
}

fn blank_length(text: &str) -> usize {
    text.len() - text.trim_start().len()
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
