use std::fmt;

use serde_json::Value;

/// Why a row is refused: the field, what was expected and what was found. [`Error::Row`](crate::Error::Row) adds file and
/// line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// A path into the row, like `messages[1].role`; empty for the row itself.
    pub field: String,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

impl Problem {
    /// A problem with the field at a path like `messages[1].role`.
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

/// A short description of a value, for error messages.
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

/// The beginning of a text, quoted.
pub(crate) fn quote(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((cut, _)) => format!("{:?}...", &text[..cut]),
        None => format!("{text:?}"),
    }
}
