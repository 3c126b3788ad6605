//! How the rows of a file are laid out, judged by its beginning.

use serde_json::Value;

use crate::json;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Lines,
    /// The elements of arrays, or objects of several lines, one after the other.
    Elements,
    /// One value over several lines.
    Whole,
}

impl Layout {
    /// Whether a file that begins with `[` is an array of rows, or its lines are arrays of messages.
    pub(super) fn of_array(start: &[u8]) -> Self {
        let mut lines =
            start.split(|&byte| byte == b'\n').filter(|line| !json::trim(line).is_empty());
        let line = json::trim(lines.next().unwrap_or_default());
        let mut lines = lines.peekable();
        if let Ok(Value::Array(items)) = serde_json::from_slice(line) {
            let one = lines.peek().is_none() && !items.first().is_some_and(is_message);
            return if one { Layout::Elements } else { Layout::Lines };
        }
        // A line of messages that was spoilt: a row after it is not followed by a comma or the end of an array.
        while let Some(next) = lines.next() {
            let after = lines.peek().and_then(|line| json::trim(line).first());
            if line != b"[" && is_row(next) && !matches!(after, Some(b']' | b',')) {
                return Layout::Lines;
            }
        }
        // The first element, if the buffer holds all of it.
        let inside = json::trim(start.get(1..).unwrap_or_default());
        let first = serde_json::Deserializer::from_slice(inside).into_iter::<Value>().next();
        match first {
            Some(Ok(first)) if is_message(&first) => Layout::Whole,
            _ => Layout::Elements,
        }
    }

    /// Whether a file that begins with `{` has a row a line, or objects over several lines: its first line is no whole value, and
    /// no other line is one, unless it is indented. (A first line may have been cut off.)
    pub(super) fn of_object(start: &[u8]) -> Self {
        let Some(end) = memchr::memchr(b'\n', start) else { return Layout::Lines };
        let (first, rest) = start.split_at(end);
        let next = json::trim(rest).first();
        let open = is_json(first).is_err_and(|error| error.is_eof());
        match next {
            Some(b'{') | None => Layout::Lines,
            Some(_) if open && !rest.split(|&byte| byte == b'\n').any(is_row) => Layout::Elements,
            Some(_) => Layout::Lines,
        }
    }
}

/// Whether a line that is not indented is a whole object or array.
fn is_row(line: &[u8]) -> bool {
    (line.starts_with(b"{") || line.starts_with(b"[{")) && is_json(line).is_ok()
}

fn is_json(line: &[u8]) -> serde_json::Result<()> {
    serde_json::from_slice::<serde::de::IgnoredAny>(line).map(drop)
}

/// Whether a value is one message and not a row.
fn is_message(value: &Value) -> bool {
    let has = |key: &str| value.get(key).is_some();
    (has("role") || has("from")) && !has("messages") && !has("conversations")
}
