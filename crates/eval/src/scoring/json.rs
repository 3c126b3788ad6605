//! JSON values in an answer.

use std::ops::Range;

use serde_json::{Map, Value};

/// Equality of JSON values that compares numbers by value (20 equals 20.0) and texts in Unicode's composed form.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::String(a), Value::String(b)) => super::text::plain(a) == super::text::plain(b),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => same_fields(a, b, same),
        _ => a == b,
    }
}

/// Whether two objects have the same keys and, by `same`, the same values.
pub(crate) fn same_fields(
    found: &Map<String, Value>,
    expected: &Map<String, Value>,
    same: fn(&Value, &Value) -> bool,
) -> bool {
    let equal = |(key, found)| expected.get(key).is_some_and(|expected| same(found, expected));
    found.len() == expected.len() && found.iter().all(equal)
}

/// Whether the text is one JSON object or array, perhaps in a code fence.
pub(crate) fn is_whole(text: &str) -> bool {
    let fenced = text.trim().strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    let text = fenced.map_or(text, |inside| inside.strip_prefix("json").unwrap_or(inside));
    let value = serde_json::from_str::<Value>(text.trim());
    value.is_ok_and(|value| value.is_object() || value.is_array())
}

/// The outermost JSON objects and arrays in a text, in order.
pub(crate) fn values(text: &str) -> Vec<Value> {
    found(text).into_iter().map(|(_, value)| value).collect()
}

/// The text without its outermost JSON objects and arrays, but for those that say nothing: no letter, no digit.
pub(crate) fn without(text: &str) -> String {
    let mut left = String::with_capacity(text.len());
    let mut from = 0;
    for (at, _) in found(text) {
        if text[at.clone()].contains(char::is_alphanumeric) {
            left.push_str(&text[from..at.start]);
            from = at.end;
        }
    }
    left.push_str(&text[from..]);
    left
}

/// The outermost JSON objects and arrays, and where they are.
fn found(text: &str) -> Vec<(Range<usize>, Value)> {
    let mut values = Vec::new();
    let mut at = 0;
    while let Some(next) = text[at..].find(['{', '[']) {
        at += next;
        let mut stream = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>();
        match stream.next() {
            Some(Ok(value)) => {
                let end = at + stream.byte_offset();
                values.push((at..end, value));
                at = end;
            }
            _ => at += 1,
        }
    }
    values
}
