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
        let end = end_of_word(self.rest.as_bytes())?;
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

/// Where the first byte is that ends a word, or makes it more than one. Eight bytes at a time: a row has a dozen words of
/// different lengths, and a loop over bytes is mispredicted at the end of each.
fn end_of_word(text: &[u8]) -> Option<usize> {
    const ENDS: [u8; 4] = [b'"', b'\\', b'<', b'['];
    const LOW: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([1 << 7; 8]);
    let (chunks, rest) = text.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        let bytes = u64::from_le_bytes(*chunk);
        // The lowest bit set is that of the first byte that is zero (Hacker's Delight, 6-1).
        let zero = |bytes: u64| bytes.wrapping_sub(LOW) & !bytes & HIGH;
        let ends = ENDS.map(|end| zero(bytes ^ (LOW * u64::from(end))));
        let found = ends.into_iter().fold(0, |all, end| all | end);
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|byte| ENDS.contains(byte))?;
    Some(text.len() - rest.len() + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_word_ends_at_the_first_byte_that_ends_it(text in "[a-z!\"\\\\<\\[\u{80}-\u{ff}\u{1}\u{7f};=:]{0,40}") {
            let text = text.as_bytes();
            let expected = text.iter().position(|byte| b"\"\\<[".contains(byte));
            proptest::prop_assert_eq!(end_of_word(text), expected);
        }
    }
}
