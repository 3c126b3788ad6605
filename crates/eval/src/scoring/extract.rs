//! Numbers and JSON values in an answer.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use super::text::{Text, stands_alone};

/// Equality of JSON values that compares numbers by value: 20 equals 20.0.
pub(crate) fn same_json(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_json(a, b))
        }
        (Value::Object(a), Value::Object(b)) => same_fields(a, b),
        _ => a == b,
    }
}

/// [`same_json`] of two objects.
pub(crate) fn same_fields(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same_json(a, b)))
}

/// The numbers of a text; with a unit, only those followed by it ("512 GB", "20%", "30 minutes"). Digits inside
/// identifiers, addresses and times of day do not count.
pub(crate) fn numbers<'t>(text: &'t Text, unit: Option<&'t str>) -> impl Iterator<Item = f64> + 't {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?").expect("the pattern is valid")
    });
    let text = text.folded();
    let unit = unit.map(str::to_lowercase);
    NUMBER.find_iter(text).filter_map(move |found| {
        let mut digits = found.as_str();
        let before = text.get(..found.start())?.chars().next_back();
        // A hyphen after a word or a number is not a minus sign ("vlan-20", "5-10").
        if digits.starts_with('-') && before.is_some_and(char::is_alphanumeric) {
            digits = &digits[1..];
        }
        let after = text.get(found.end()..)?;
        let glued_before = found.as_str().len() == digits.len()
            && before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | ':'));
        let mut following = after.chars();
        let glued_after = match following.next() {
            Some('.' | ':' | ',') => following.next().is_some_and(|c| c.is_ascii_digit()),
            Some(c) => unit.is_none() && (c.is_alphabetic() || c == '_'),
            None => false,
        };
        if glued_before || glued_after || !unit.as_deref().is_none_or(|u| has_unit(after, u)) {
            return None;
        }
        digits.replace(',', "").parse().ok()
    })
}

/// Whether the text right after a number begins with the unit, in the singular or the plural.
fn has_unit(after: &str, unit: &str) -> bool {
    let after = after.trim_start_matches([' ', '-']);
    let singular = unit.strip_suffix('s').filter(|u| u.len() > 1).unwrap_or(unit);
    [unit.to_owned(), singular.to_owned(), format!("{singular}s")]
        .iter()
        .any(|u| after.starts_with(u.as_str()) && stands_alone(after, 0, u.len()))
}

/// The outermost JSON objects and arrays in a text, in order.
pub(crate) fn json_values(text: &str) -> Vec<Value> {
    let mut values = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '[']) {
        rest = &rest[at..];
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match stream.next() {
            Some(Ok(value)) => {
                values.push(value);
                rest = &rest[stream.byte_offset()..];
            }
            _ => rest = &rest[1..],
        }
    }
    values
}
