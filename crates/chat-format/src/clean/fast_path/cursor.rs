//! Reads JSON without decoding it: strings are slices of the input, with their escapes.

use memchr::memchr2;

/// A place in a row. Each method moves it behind what it reads, or returns `None` for JSON that is left to the full parser.
pub(super) struct Cursor<'r> {
    /// The rest of the row.
    rest: &'r str,
}

impl<'r> Cursor<'r> {
    /// The beginning of a row.
    pub(super) fn new(rest: &'r str) -> Self {
        Cursor { rest }
    }

    /// Reads the end of the row.
    pub(super) fn end(&mut self) -> Option<()> {
        self.skip_spaces();
        self.rest.is_empty().then_some(())
    }

    /// Reads a JSON delimiter and the spaces before it.
    pub(super) fn eat(&mut self, token: u8) -> Option<()> {
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
    pub(super) fn key(&mut self) -> Option<&'r str> {
        let key = self.word()?;
        self.eat(b':')?;
        Some(key)
    }

    /// Reads a string without escapes and without the characters that control tokens begin with.
    pub(super) fn word(&mut self) -> Option<&'r str> {
        self.eat(b'"')?;
        let end = self.rest.bytes().position(|byte| matches!(byte, b'"' | b'\\' | b'<' | b'['))?;
        let (word, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest.strip_prefix('"')?;
        Some(word)
    }

    /// Reads a string without decoding it: escapes of one letter are written as they are read.
    pub(super) fn text(&mut self) -> Option<&'r str> {
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
    pub(super) fn scalar(&mut self) -> Option<&'r str> {
        self.skip_spaces();
        let value = self.rest;
        if value.starts_with('"') {
            if self.word().is_none() {
                self.rest = value;
                self.text()?;
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
