use std::fmt;

use serde_json::Value;

/// Why a row is refused: which field, what it should be, what it is. [`Error::Row`](crate::Error::Row) adds file and line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A path into the row, like `messages[1].role`; empty for the row itself.
    pub field: String,
    /// What belongs there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl Problem {
    /// A refusal in three words: field, expected, found.
    pub fn new(
        field: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Problem { field: field.into(), expected: expected.into(), found: found.into() }
    }

    pub(crate) fn value(field: impl Into<String>, expected: &str, found: &Value) -> Self {
        Problem::new(field, expected, describe(found))
    }

    pub(crate) fn missing(field: impl Into<String>, expected: &str) -> Self {
        Problem::new(field, expected, "nothing")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { field, expected, found } = self;
        match field.as_str() {
            "" => write!(f, "expected {expected}, found {found}"),
            _ => write!(f, "`{field}`: expected {expected}, found {found}"),
        }
    }
}

impl std::error::Error for Problem {}

/// A value in a few words, for an error message.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(text) => quote(text),
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::Object(_) => "an object".into(),
    }
}

/// The start of a text in quotes.
pub(crate) fn quote(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((cut, _)) => format!("{:?}...", &text[..cut]),
        None => format!("{text:?}"),
    }
}
