//! Fast path: the most common rows are not decoded; a clean row is written from slices of the raw one.
//!
//! It accepts rows whose messages have only a role and a content, with complete markup or none. Anything else (`\u`
//! escapes, tool calls, code spans around a marker, a turn left open, a duplicate key) is left to the
//! [full parser](super::walk), which alone decides what is refused and why. Tests and a fuzz target compare the two.

mod cursor;

use super::report::{Event, Tally};
use super::{MARKUP, Options, Origin, Reasoning, Scrub, Shape, quoted, settle, shape, walk};
use crate::family::{self, Effect, FAMILIES, Found, Mark};
use crate::{Role, json};
use cursor::Cursor;

/// Rows with more keys take the full parser, because keys are compared one by one here.
const MOST_KEYS: usize = 16;

/// Cleans a row and appends it to `out`. `None` if the row needs the full parser; `out` is unchanged then.
pub(super) fn clean(
    row: &[u8],
    options: Options,
    out: &mut Vec<u8>,
    tally: &mut Tally,
) -> Option<()> {
    if options.reasoning != Reasoning::Drop || options.scrub != Scrub::NONE {
        return None;
    }
    let start = out.len();
    let done = Row::new(row, out, tally).and_then(|row| row.clean(options.origin));
    if done.is_none() {
        out.truncate(start);
        tally.clear();
    }
    done
}

struct Row<'r, 'o> {
    cursor: Cursor<'r>,
    out: &'o mut Vec<u8>,
    tally: &'o mut Tally,
}

/// The keys of a row beside its messages, with their values as they are written.
struct Others<'r> {
    entries: [(&'r str, &'r str); MOST_KEYS],
    len: usize,
}

impl<'r> Others<'r> {
    fn read(&mut self, key: &'r str, cursor: &mut Cursor<'r>) -> Option<()> {
        let known = shape::is_key(key)
            || key == shape::KTO_TAG
            || self.all().any(|(other, _)| *other == key);
        (!known).then_some(())?;
        *self.entries.get_mut(self.len)? = (key, cursor.scalar()?);
        self.len += 1;
        Some(())
    }

    fn all(&self) -> impl Iterator<Item = &(&'r str, &'r str)> {
        self.entries.iter().take(self.len)
    }
}

impl<'r, 'o> Row<'r, 'o> {
    fn new(row: &'r [u8], out: &'o mut Vec<u8>, tally: &'o mut Tally) -> Option<Self> {
        let row = json::trim(row);
        // Control characters are invalid inside JSON strings; as white space they are left to the full parser.
        let least = row.iter().fold(u8::MAX, |least, &byte| least.min(byte));
        let rest = std::str::from_utf8(row).ok().filter(|_| least >= b' ')?;
        Some(Row { cursor: Cursor::new(rest), out, tally })
    }

    fn clean(mut self, origin: Origin) -> Option<()> {
        self.cursor.eat(b'{')?;
        let mut others = Others { entries: [("", ""); MOST_KEYS], len: 0 };
        let shape = loop {
            match self.cursor.key()? {
                "messages" => break Shape::Messages,
                "conversations" => break Shape::Conversations,
                key => others.read(key, &mut self.cursor)?,
            }
            self.cursor.eat(b',')?;
        };
        self.tally.note(Event::Shape(shape));
        self.out.extend_from_slice(b"{\"messages\": [");
        self.messages()?;
        self.out.push(b']');
        while self.cursor.eat(b'}').is_none() {
            self.cursor.eat(b',')?;
            let key = self.cursor.key()?;
            others.read(key, &mut self.cursor)?;
        }
        self.cursor.end()?;
        for (key, value) in others.all() {
            self.write_key(key, value);
        }
        let family = self.tally.family().filter(|_| origin == Origin::Keep);
        if let Some(family) = family.filter(|_| others.all().all(|(key, _)| *key != MARKUP)) {
            self.write_key(MARKUP, &format!("\"{family}\""));
        }
        self.out.extend_from_slice(b"}\n");
        Some(())
    }

    fn messages(&mut self) -> Option<()> {
        let start = self.out.len();
        self.cursor.eat(b'[')?;
        let mut messages = Vec::with_capacity(4);
        loop {
            self.cursor.eat(b'{')?;
            let (mut role, mut content) = (None, None);
            for last in [false, true] {
                match self.cursor.key()? {
                    "role" | "from" if role.is_none() => {
                        role = Some(Role::parse(self.cursor.word()?)?);
                    }
                    "content" | "value" if content.is_none() => {
                        content = Some(self.cursor.text()?);
                    }
                    _ => return None,
                }
                self.cursor.eat(if last { b'}' } else { b',' })?;
            }
            messages.push((role?, content?));
            if self.cursor.eat(b']').is_some() {
                break;
            }
            self.cursor.eat(b',')?;
        }
        if let [(role, content)] = &messages[..] {
            return self.only_message(*role, content, start);
        }
        let end = common_end(&messages);
        let mut written = Vec::new();
        for (role, content) in messages {
            let content = match end {
                Some(end) => {
                    self.tally.note(Event::Removed(end.id));
                    trim(trim(content).strip_suffix(end.literal)?)
                }
                None => content,
            };
            self.message(role, content, start)?;
            written.extend(end.map(|_| (role, content)));
        }
        // The full parser takes off end tokens until one message has none.
        let left = end.is_some() && common_end(&written).is_some();
        (!left).then_some(())
    }

    /// Cleans the content of a row's only message, which may be a whole conversation.
    fn only_message(&mut self, role: Role, content: &'r str, start: usize) -> Option<()> {
        let mut marks = family::find(content);
        let Some(first) = marks.next() else { return self.message(role, content, start) };
        match first.mark.effect {
            Effect::Turn(_) | Effect::Header(_) | Effect::Begin => {
                self.conversation(content, [first].into_iter().chain(marks), start)
            }
            // Other tokens may come before the first turn.
            _ if blank(&content[..first.start]).is_some() && role != Role::Assistant => None,
            Effect::Other | Effect::End => None,
            _ => self.message(role, content, start),
        }
    }

    /// Cleans the content of one message.
    fn message(&mut self, role: Role, content: &'r str, start: usize) -> Option<()> {
        let mut marks = family::find(content).peekable();
        let words = match marks.peek() {
            None => content,
            // Around results there may be tokens to take off.
            Some(_) if role == Role::Tool => return None,
            Some(_) => {
                let mut turn = Turn::new(role, 0);
                for found in marks {
                    turn.follow(content, &found, self.tally)?;
                }
                turn.words(content, content.len(), self.tally)?
            }
        };
        shows(trim(words))?;
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
        let mut turns = Vec::with_capacity(4);
        for found in marks {
            // The end token of a header was skipped with the header.
            if found.start < done {
                continue;
            }
            let ours = family.is_none_or(|family| family == found.mark.family);
            if let Some(turn) = &turn {
                let (before, after) = (&text[turn.begin..found.start], &text[found.end..]);
                (!quoted::may_be_quoted(before, after)).then_some(())?;
            }
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
                        // Llama 2 writes the system prompt inside the first user turn.
                        Some(turn)
                            if role == Role::System
                                && blank(&text[turn.begin..found.start]).is_some() => {}
                        Some(_) if role == Role::System => return None,
                        Some(turn) => turns.push(self.close(turn, text, found.start)?),
                        None => blank(&text[done..found.start])?,
                    }
                    self.open(&mut family, &found);
                    turn = Some(Turn::new(role, found.end));
                }
                (Effect::End, open @ Some(_)) if ours => {
                    if let Some(turn) = open.take() {
                        turns.push(self.close(turn, text, found.start)?);
                    }
                }
                (Effect::End, None) if family.is_some() => blank(&text[done..found.start])?,
                (Effect::Think(_) | Effect::EndThink | Effect::Other, Some(turn)) => {
                    turn.follow(text, &found, self.tally)?;
                    continue;
                }
                (Effect::Begin, Some(turn)) if !ours => {
                    turn.follow(text, &found, self.tally)?;
                    continue;
                }
                _ => return None,
            }
            self.tally.note(Event::Removed(found.mark.id));
            done = turn.as_ref().map_or(found.end, |turn| turn.from);
        }
        (family.is_some() && turn.is_none()).then_some(())?;
        blank(&text[done..])?;
        // The full parser refuses a conversation inside another one.
        if let [(_, only)] = &turns[..] {
            (!family::is_in(only)).then_some(())?;
        }
        let roles = turns.iter().map(|(role, _)| *role);
        (walk::is_ordered(roles) && common_end(&turns).is_none()).then_some(())?;
        turns.into_iter().for_each(|(role, words)| self.write_message(role, words, start));
        Some(())
    }

    fn open(&mut self, family: &mut Option<usize>, found: &Found) {
        if family.replace(found.mark.family).is_none() {
            self.tally.note(Event::Family(FAMILIES[found.mark.family].name));
        }
    }

    /// The role and the words of a turn. One that is empty is left to the full parser.
    fn close(&mut self, turn: Turn, text: &'r str, end: usize) -> Option<(Role, &'r str)> {
        // Tokens around the texts of tools, and of system turns that switch thinking on, may have to be taken off.
        let plain = matches!(turn.role, Role::User | Role::Assistant) || !turn.spells;
        plain.then_some(())?;
        let role = turn.role;
        let words = turn.words(text, end, self.tally)?;
        let result =
            role == Role::Tool && (words.starts_with("response:") || words.starts_with('{'));
        (!result).then_some(())?;
        shows(words)?;
        Some((role, words))
    }

    /// Writes a message. `start` is where its list begins in `out`.
    fn write_message(&mut self, role: Role, words: &str, start: usize) {
        if self.out.len() > start {
            self.out.extend_from_slice(b", ");
        }
        let opening = match role {
            Role::System => "{\"role\": \"system\", \"content\": \"",
            Role::User => "{\"role\": \"user\", \"content\": \"",
            Role::Assistant => "{\"role\": \"assistant\", \"content\": \"",
            Role::Tool => "{\"role\": \"tool\", \"content\": \"",
        };
        self.out.extend_from_slice(opening.as_bytes());
        self.out.extend_from_slice(words.as_bytes());
        self.out.extend_from_slice(b"\"}");
    }

    fn write_key(&mut self, key: &str, value: &str) {
        self.out.extend_from_slice(b", \"");
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\": ");
        self.out.extend_from_slice(value.as_bytes());
    }
}

/// A turn whose text is one slice.
struct Turn {
    role: Role,
    /// Where it begins, behind its header.
    begin: usize,
    /// Where its text begins; inside reasoning, where that begins.
    from: usize,
    /// The family of the reasoning that is open.
    thinks: Option<usize>,
    /// Whether its text spells control tokens.
    spells: bool,
}

impl Turn {
    fn new(role: Role, from: usize) -> Self {
        Turn { role, begin: from, from, thinks: None, spells: false }
    }

    /// Acts on a control token inside the turn: reasoning before the text is skipped, other tokens are text. Those that
    /// the full parser may read otherwise are left to it.
    fn follow(&mut self, text: &str, found: &Found, tally: &mut Tally) -> Option<()> {
        if self.role != Role::Assistant {
            self.spells = true;
            return Some(());
        }
        match (found.mark.effect, self.thinks) {
            (Effect::EndThink, Some(family)) if family == found.mark.family => {
                tally.note(Event::Removed(found.mark.id));
                (self.from, self.thinks) = (found.end, None);
            }
            (_, Some(_)) => {}
            (Effect::Think(_), None)
                if !self.spells && blank(text.get(self.from..found.start)?).is_some() =>
            {
                tally.note(Event::Reasoning);
                tally.note(Event::Removed(found.mark.id));
                self.thinks = Some(found.mark.family);
                self.from = found.content_start(text);
            }
            (Effect::Think(_), None) if self.spells => {}
            (Effect::Other | Effect::Begin, None)
                if FAMILIES[found.mark.family].name != family::HARMONY =>
            {
                self.spells = true;
            }
            _ => return None,
        }
        Some(())
    }

    /// Its text, up to `end`; as it stands if nothing was taken off. `None` if reasoning is open.
    fn words<'t>(self, text: &'t str, end: usize, tally: &mut Tally) -> Option<&'t str> {
        let words = text.get(self.from..end).filter(|_| self.thinks.is_none())?;
        let words = if self.from > 0 { trim(words) } else { words };
        if self.spells {
            family::find(words).for_each(|found| tally.note(Event::Spelled(found.mark.id)));
        }
        Some(words)
    }
}

/// The end token that every message ends with.
fn common_end(messages: &[(Role, &str)]) -> Option<&'static Mark> {
    let [(_, first), others @ ..] = messages else { return None };
    let mark = family::ending(trim(first)).filter(|mark| mark.effect == Effect::End)?;
    let ends = |text: &str| trim(text).ends_with(mark.literal);
    let common = others.iter().all(|(_, text)| ends(text));
    (common && messages.iter().all(|(_, text)| settle::may_end(trim(text), mark))).then_some(mark)
}

/// `None` if a trimmed text is empty, or begins with a character without width and may show nothing.
fn shows(words: &str) -> Option<()> {
    (!words.is_empty() && !words.starts_with(settle::is_unseen)).then_some(())
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
    // Most texts have nothing to trim.
    if let [first, .., before, last] = text.as_bytes()
        && [first, last].iter().all(|byte| byte.is_ascii_graphic())
        && ![first, before].contains(&&b'\\')
    {
        return text;
    }
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
