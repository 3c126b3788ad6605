//! JSON the way Python's `json.dumps` spaces it (`", "` and `": "`), which is what chat data sets and chat templates use.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use serde_json::{Map, Value};

use crate::raw::Raw;

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

/// Parses a value. Unlike `serde_json` for a [`Value`], it takes no object with a key twice, of which all values but one would be
/// lost, and no number that would be rounded to one of 64 bits.
pub(crate) fn parse(text: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice::<Raw<'_>>(text).map(Value::from)
}

/// The same for an object.
pub(crate) fn parse_object(text: &[u8]) -> Option<Map<String, Value>> {
    match parse(text) {
        Ok(Value::Object(fields)) => Some(fields),
        _ => None,
    }
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

/// What was found in place of JSON: the parser's message in plain words, with the text that it stopped at.
pub(crate) fn reason(row: &[u8], error: &serde_json::Error) -> String {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or(&message);
    let mut lines = row.split(|&byte| byte == b'\n');
    let line = lines.nth(error.line().saturating_sub(1)).unwrap_or_default();
    // The parser's column is that of the byte it has read last.
    let (before, after) = line.split_at(error.column().saturating_sub(1).min(line.len()));
    let half_emoji = "half of an emoji: a surrogate without its other half";
    let plain = match message {
        "EOF while parsing a list" => "the end of the row inside an array",
        "EOF while parsing an object" => "the end of the row inside an object",
        "EOF while parsing a string" => "the end of the row inside a string",
        "EOF while parsing a value" => "the end of the row where a value should be",
        "expected value" | "invalid number" | "expected ident" => {
            return no_value(before, after);
        }
        "expected `:`" => "no `:` after a key",
        "expected `,` or `}`" => "neither `,` nor `}` after a value",
        "expected `,` or `]`" => "neither `,` nor `]` after a value",
        "key must be a string" => "a key that is not in double quotes",
        "trailing comma" => "a comma with nothing behind it",
        "trailing characters" => {
            return format!("more text behind the value: {}", excerpt(after));
        }
        "number out of range" => "a number that is too large",
        "invalid escape" => "a backslash that begins no escape",
        "invalid unicode code point" => "bytes that are not UTF-8",
        "lone leading surrogate in hex escape" | "unexpected end of hex escape" => half_emoji,
        "recursion limit exceeded" => "arrays and objects nested too deeply (more than 127 levels)",
        message if message.starts_with("control character") => {
            "a line break, a tab or another control character inside a string, not escaped"
        }
        other => other,
    };
    plain.to_owned()
}

/// What stands where a value should be.
fn no_value(before: &[u8], after: &[u8]) -> String {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._'".contains(byte);
    let start = before.iter().rposition(|byte| !word(byte)).map_or(0, |at| at + 1);
    let value = [before.get(start..).unwrap_or_default(), after].concat();
    let length = value.iter().take_while(|byte| word(byte)).count();
    let value = value.get(..length.max(1)).unwrap_or_default();
    match value {
        b"NaN" | b"Infinity" | b"-Infinity" => {
            format!("{}, which JSON has no way to write", String::from_utf8_lossy(value))
        }
        value => format!("{} where a value should be", excerpt(value)),
    }
}

/// The beginning of what the parser stopped at, quoted.
fn excerpt(text: &[u8]) -> String {
    crate::problem::quote(&String::from_utf8_lossy(text))
}
