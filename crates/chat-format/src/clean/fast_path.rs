//! Fast path: the most common rows are not decoded; a clean row is written from slices of the raw one.
//!
//! It accepts rows whose messages have only a role and a content, with complete markup or none. Anything else (`\u`
//! escapes, tool calls, text between turns, a turn left open, a duplicate key) is left to the [full parser](super::walk),
//! which alone decides what is refused and why. Tests and a fuzz target compare the two.

use memchr::memchr2;

use super::report::{Event, Tally};
use super::{Options, Origin, Reasoning, Shape};
use crate::family::{self, Effect, FAMILIES, Found};
use crate::{Role, json};

/// Rows with more keys take the full parser, because keys are compared one by one here.
const MOST_KEYS: usize = 16;

/// Cleans a row and appends it to `out`. `None` if the row needs the full parser; `out` is unchanged then.
pub(super) fn clean(
    row: &[u8],
    options: Options,
    out: &mut Vec<u8>,
    tally: &mut Tally,
) -> Option<()> {
    let start = out.len();
    let done = Row::new(row, out, tally).and_then(|row| row.clean(options));
    if done.is_none() {
        out.truncate(start);
        tally.clear();
    }
    done
}

struct Row<'r, 'o> {
    /// The rest of the row.
    rest: &'r str,
    out: &'o mut Vec<u8>,
    tally: &'o mut Tally,
}

impl<'r, 'o> Row<'r, 'o> {
    fn new(row: &'r [u8], out: &'o mut Vec<u8>, tally: &'o mut Tally) -> Option<Self> {
        let row = json::trim(row);
        // Control characters are invalid inside JSON strings; as white space they are left to the full parser.
        let printable = row.iter().fold(true, |all, &byte| all & (byte >= b' '));
        let rest = std::str::from_utf8(row).ok().filter(|_| printable)?;
        Some(Row { rest, out, tally })
    }

    fn clean(mut self, options: Options) -> Option<()> {
        if options != (Options { reasoning: Reasoning::Drop, origin: Origin::Forget }) {
            return None;
        }
        self.eat(b'{')?;
        (self.key()? == "messages").then_some(())?;
        self.tally.note(Event::Shape(Shape::Messages));
        self.out.extend_from_slice(b"{\"messages\": [");
        self.messages()?;
        self.out.push(b']');
        let mut keys = ["messages"; MOST_KEYS];
        for seen in 1.. {
            if self.eat(b'}').is_some() {
                break;
            }
            self.eat(b',')?;
            let key = self.key()?;
            let known = keys.get(..seen)?.contains(&key) || key == "tools";
            (!known).then_some(())?;
            *keys.get_mut(seen)? = key;
            let value = self.scalar()?;
            self.write(&[", \"", key, "\": ", value]);
        }
        self.skip_spaces();
        self.rest.is_empty().then(|| self.out.extend_from_slice(b"}\n"))
    }

    fn messages(&mut self) -> Option<()> {
        let start = self.out.len();
        self.eat(b'[')?;
        loop {
            self.eat(b'{')?;
            let (mut role, mut content) = (None, None);
            for last in [false, true] {
                match self.key()? {
                    "role" if role.is_none() => role = Some(Role::parse(self.word()?)?),
                    "content" if content.is_none() => content = Some(self.text()?),
                    _ => return None,
                }
                self.eat(if last { b'}' } else { b',' })?;
            }
            self.message(role?, content?, start)?;
            if self.eat(b']').is_some() {
                return (self.out.len() > start).then_some(());
            }
            self.eat(b',')?;
        }
    }

    /// Cleans one content, which is a message or a whole conversation.
    fn message(&mut self, role: Role, content: &'r str, start: usize) -> Option<()> {
        let mut marks = family::find(content);
        let Some(first) = marks.next() else {
            (!content.is_empty()).then_some(())?;
            self.write_message(role, content, start);
            return Some(());
        };
        let opens =
            matches!(first.mark.effect, Effect::Turn(_) | Effect::Header(_) | Effect::Begin);
        let marks = [first].into_iter().chain(marks);
        if opens {
            return self.conversation(content, marks, start);
        }
        let mut turn = Turn::new(role, 0);
        for found in marks {
            self.tally.note(Event::Removed(found.mark.id));
            turn.follow(content, &found, self.tally)?;
        }
        let words = turn.words(content, content.len())?;
        self.write_message(role, words, start);
        Some(())
    }

    fn conversation(
        &mut self,
        text: &'r str,
        marks: impl Iterator<Item = Found>,
        start: usize,
    ) -> Option<()> {
        let mut family = None;
        let mut turn: Option<Turn> = None;
        let mut done = 0;
        for found in marks {
            // The end token of a header was skipped with the header.
            if found.start < done {
                continue;
            }
            self.tally.note(Event::Removed(found.mark.id));
            let ours = family.is_none_or(|family| family == found.mark.family);
            match (found.mark.effect, &mut turn) {
                (Effect::Begin, None) => blank(&text[done..found.start])?,
                (Effect::Header(ends), None) if ours => {
                    blank(&text[done..found.start])?;
                    let (role, words) = header(text, found.end, ends)?;
                    self.open(&mut family, &found);
                    turn = Some(Turn::new(role, words));
                }
                (Effect::Turn(role), open) if ours => {
                    match open.take() {
                        Some(turn) => self.close(turn, text, found.start, start)?,
                        None => blank(&text[done..found.start])?,
                    }
                    self.open(&mut family, &found);
                    turn = Some(Turn::new(role, found.end));
                }
                (Effect::End, open @ Some(_)) if ours => {
                    if let Some(turn) = open.take() {
                        self.close(turn, text, found.start, start)?;
                    }
                }
                (Effect::End, None) if family.is_some() => blank(&text[done..found.start])?,
                (Effect::Think(_) | Effect::EndThink, Some(turn)) => {
                    turn.follow(text, &found, self.tally)?;
                }
                _ => return None,
            }
            done = turn.as_ref().map_or(found.end, |turn| turn.from);
        }
        (family.is_some() && turn.is_none()).then_some(())?;
        blank(&text[done..])
    }

    fn open(&mut self, family: &mut Option<usize>, found: &Found) {
        if family.replace(found.mark.family).is_none() {
            self.tally.note(Event::Family(FAMILIES[found.mark.family].name));
        }
    }

    fn close(&mut self, turn: Turn, text: &str, end: usize, start: usize) -> Option<()> {
        let role = turn.role;
        match turn.words(text, end) {
            Some(words) => self.write_message(role, words, start),
            // An empty turn is dropped; an empty answer is an error, which the full parser reports.
            None if role != Role::Assistant => {}
            None => return None,
        }
        Some(())
    }

    /// Writes a message. `start` is where its list begins in `out`.
    fn write_message(&mut self, role: Role, words: &str, start: usize) {
        let comma = if self.out.len() > start { ", " } else { "" };
        self.write(&[comma, "{\"role\": \"", role.as_str(), "\", \"content\": \"", words, "\"}"]);
    }

    fn write(&mut self, parts: &[&str]) {
        parts.iter().for_each(|part| self.out.extend_from_slice(part.as_bytes()));
    }

    /// Reads a JSON delimiter and the spaces before it.
    fn eat(&mut self, token: u8) -> Option<()> {
        self.skip_spaces();
        (*self.rest.as_bytes().first()? == token).then_some(())?;
        self.rest = self.rest.get(1..)?;
        Some(())
    }

    fn skip_spaces(&mut self) {
        while let [b' ', ..] = self.rest.as_bytes() {
            self.rest = &self.rest[1..];
        }
    }

    /// Reads a key and the colon after it.
    fn key(&mut self) -> Option<&'r str> {
        let key = self.word()?;
        self.eat(b':')?;
        Some(key)
    }

    /// Reads a string without escapes and without the characters that control tokens begin with.
    fn word(&mut self) -> Option<&'r str> {
        self.eat(b'"')?;
        let end = self.rest.bytes().position(|byte| matches!(byte, b'"' | b'\\' | b'<' | b'['))?;
        let (word, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest.strip_prefix('"')?;
        Some(word)
    }

    /// Reads a string without decoding it: escapes of one letter are written as they are read.
    fn text(&mut self) -> Option<&'r str> {
        self.eat(b'"')?;
        let text = self.rest;
        let mut end = 0;
        loop {
            end += memchr2(b'"', b'\\', text.as_bytes().get(end..)?)?;
            if text.as_bytes()[end] == b'"' {
                self.rest = &text[end + 1..];
                return Some(&text[..end]);
            }
            match text.as_bytes().get(end + 1)? {
                b'n' | b't' | b'r' | b'b' | b'f' | b'\\' => {}
                // The control token that contains a quotation mark is not found while the mark is escaped.
                b'"' if !text[..end].ends_with("<|") => {}
                _ => return None,
            }
            end += 2;
        }
    }

    /// Reads a string with its quotation marks, an integer, `true`, `false` or `null`.
    fn scalar(&mut self) -> Option<&'r str> {
        self.skip_spaces();
        let value = self.rest;
        if value.starts_with('"') {
            if self.word().is_none() {
                self.rest = value;
                let text = self.text()?;
                (!family::is_in(text)).then_some(())?;
            }
            return Some(&value[..value.len() - self.rest.len()]);
        }
        let (value, rest) = value.split_at(value.find([',', '}', ' '])?);
        self.rest = rest;
        let digits = value.strip_prefix('-').unwrap_or(value);
        let number = digits.bytes().all(|byte| byte.is_ascii_digit())
            && (1..19).contains(&digits.len())
            && (!digits.starts_with('0') || value == "0");
        (number || matches!(value, "true" | "false" | "null")).then_some(value)
    }
}

/// A turn whose text is one slice.
struct Turn {
    role: Role,
    /// Where its text begins; inside reasoning, where that begins.
    from: usize,
    thinks: bool,
    /// Where its text ends, once its end token was found.
    end: Option<usize>,
}

impl Turn {
    fn new(role: Role, from: usize) -> Self {
        Turn { role, from, thinks: false, end: None }
    }

    /// Acts on a control token: reasoning before the text is skipped, and a single message may have an end token.
    fn follow(&mut self, text: &str, found: &Found, tally: &mut Tally) -> Option<()> {
        match found.mark.effect {
            Effect::Think(_) if self.role == Role::Assistant && !self.thinks => {
                blank(text.get(self.from..found.start)?)?;
                tally.note(Event::Reasoning);
                (self.from, self.thinks) = (found.content_start(text), true);
                Some(())
            }
            Effect::EndThink if self.thinks => {
                (self.from, self.thinks) = (found.end, false);
                Some(())
            }
            Effect::End if !self.thinks => {
                self.end = Some(found.start);
                blank(&text[found.end..])
            }
            _ => None,
        }
    }

    /// Its text, up to `end` unless it ended before; `None` if it is blank.
    fn words(self, text: &str, end: usize) -> Option<&str> {
        let words = text.get(self.from..self.end.unwrap_or(end)).filter(|_| !self.thinks)?;
        Some(trim(words)).filter(|words| !words.is_empty())
    }
}

/// The role after a header's token, and where the text begins. `start` is the end of the token.
fn header(text: &str, start: usize, ends: &[&str]) -> Option<(Role, usize)> {
    let opening = &text[start..];
    let name = &opening[..opening.bytes().position(|byte| !byte.is_ascii_alphanumeric())?];
    let escaped =
        |end: &str| opening[name.len()..].strip_prefix(if end == "\n" { "\\n" } else { end });
    let words = ends.iter().find_map(|end| escaped(end))?;
    Some((Role::parse(name)?, text.len() - words.len()))
}

fn blank(text: &str) -> Option<()> {
    trim(text).is_empty().then_some(())
}

/// Trims white space, escaped or not.
fn trim(text: &str) -> &str {
    let mut text = text.trim();
    while let [b'\\', b'n' | b'r' | b't' | b'f', ..] = text.as_bytes() {
        text = text[2..].trim_start();
    }
    while let [before @ .., b'\\', b'n' | b'r' | b't' | b'f'] = text.as_bytes() {
        // After an odd number of backslashes this one is itself escaped.
        if before.iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1 {
            break;
        }
        text = text[..before.len()].trim_end();
    }
    text
}

#[cfg(test)]
mod tests;
