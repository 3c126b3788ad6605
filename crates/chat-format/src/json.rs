//! JSON the way Python's `json.dumps` spaces it (`", "` and `": "`), which is what chat data sets and chat templates use.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(b": ")
    }
}

/// Whether the byte is white space in JSON, which has fewer kinds than ASCII.
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// A row without the white space around it.
pub(crate) fn trim(row: &[u8]) -> &[u8] {
    let start = row.iter().position(|&byte| !is_space(byte)).unwrap_or(row.len());
    let end = row.iter().rposition(|&byte| !is_space(byte)).map_or(start, |last| last + 1);
    row.get(start..end).unwrap_or_default()
}

/// Writes `value` on one line.
pub(crate) fn write(out: impl io::Write, value: &impl Serialize) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Spaced))
}

/// `value` as text: on one line, or indented by `indent` spaces a level.
#[cfg(feature = "templates")]
pub(crate) fn dumps(value: &impl Serialize, indent: Option<usize>) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    match indent {
        None => write(&mut bytes, value)?,
        Some(width) => {
            let spaces = " ".repeat(width);
            let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))?;
        }
    }
    // serde_json only ever writes UTF-8.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// JSON with every character beyond ASCII as an escape, as Python's `ensure_ascii=True` has it. Characters of the private
/// planes stay: they stand for others in a rendering (see `disguise`).
#[cfg(feature = "templates")]
pub(crate) fn escape_non_ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_ascii() || c >= '\u{F0000}' => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out
}

/// Why a row is not JSON, in words: the parser's, and what is behind its most frequent ones.
pub(crate) fn reason(row: &[u8], error: &serde_json::Error) -> String {
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text);
    let mut lines = row.split(|&byte| byte == b'\n');
    let line = lines.nth(error.line().saturating_sub(1)).unwrap_or_default();
    let (before, after) = line.split_at(error.column().saturating_sub(1).min(line.len()));
    let no_number = ["NaN", "Infinity"];
    let found = no_number.iter().find(|word| {
        after.starts_with(word.as_bytes())
            || line[before.len().saturating_sub(1)..].starts_with(word.as_bytes())
    });
    let half = |start: usize| {
        let unit = line.get(start..start + 4);
        matches!(unit, Some([b'\\', b'u', b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F']))
    };
    let near = before.len().saturating_sub(12)..before.len();
    match found {
        Some(word) => format!("{reason}: JSON has no {word}"),
        None if reason.contains("hex escape") && near.into_iter().any(half) => {
            format!("{reason}: half of a surrogate pair, as of an emoji cut in two")
        }
        None => reason.to_owned(),
    }
}
