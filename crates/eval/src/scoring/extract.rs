use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use super::text::{Text, stands_alone};

/// A tool call found in an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ToolCall {
    pub(crate) name: String,
    pub(crate) arguments: Map<String, Value>,
}

impl ToolCall {
    pub(crate) fn has_exactly(&self, arguments: &Map<String, Value>) -> bool {
        self.arguments.len() == arguments.len()
            && arguments
                .iter()
                .all(|(key, value)| self.arguments.get(key).is_some_and(|v| same_json(v, value)))
    }
}

/// Equality that does not mind how a number is written: 20 is 20.0.
pub(crate) fn same_json(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_json(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same_json(a, b)))
        }
        _ => a == b,
    }
}

/// The numbers of a text; with a unit, only those that it follows ("512 GB", "20%", "30 minutes").
/// Digits inside identifiers, addresses and times of day are no numbers.
pub(crate) fn numbers<'t>(text: &'t Text, unit: Option<&'t str>) -> impl Iterator<Item = f64> + 't {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?").expect("the pattern is valid")
    });
    let text = text.folded();
    let unit = unit.map(str::to_lowercase);
    NUMBER.find_iter(text).filter_map(move |found| {
        let mut digits = found.as_str();
        let before = text.get(..found.start())?.chars().next_back();
        // A hyphen after a word or a number joins ("vlan-20", "5-10"); it is no sign.
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

/// Every JSON object or array in a text, outermost first, wherever it begins.
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

/// The tool calls of an answer, in the forms that models write them:
/// JSON with `name` and `arguments` (also `parameters`, also inside `function`, also in a list); Qwen's
/// `<function=name><parameter=key>value</parameter></function>`; Gemma's `call:name{key:value}`.
pub(crate) fn tool_calls(text: &str) -> Vec<ToolCall> {
    let mut calls = Vec::new();
    json_values(text).iter().for_each(|value| calls_in_json(value, &mut calls));
    calls.extend(calls_in_tags(text));
    calls.extend(calls_in_braces(text));
    calls
}

fn calls_in_json(value: &Value, calls: &mut Vec<ToolCall>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| calls_in_json(value, calls)),
        Value::Object(object) => {
            for nested in ["function", "tool_calls"] {
                if let Some(inner) = object.get(nested) {
                    calls_in_json(inner, calls);
                }
            }
            let name = object.get("name").and_then(Value::as_str);
            let arguments = object.get("arguments").or_else(|| object.get("parameters"));
            if let (Some(name), Some(arguments)) = (name, arguments.and_then(as_object)) {
                calls.push(ToolCall { name: name.to_owned(), arguments });
            }
        }
        _ => {}
    }
}

/// Arguments are an object, or (as OpenAI's interface has it) the text of one.
fn as_object(value: &Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(object) => Some(object.clone()),
        Value::String(text) => serde_json::from_str(text).ok(),
        _ => None,
    }
}

fn calls_in_tags(text: &str) -> Vec<ToolCall> {
    static PARAMETER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?s)<parameter=([^>]+)>(.*?)</parameter>").expect("the pattern is valid")
    });
    let bodies = text.split("<function=").skip(1);
    let calls = bodies.filter_map(|body| {
        let (name, rest) = body.split_once('>')?;
        let (inside, _) = rest.split_once("</function>")?;
        let arguments = PARAMETER
            .captures_iter(inside)
            .map(|c| (c[1].trim().to_owned(), scalar(c[2].trim())))
            .collect();
        Some(ToolCall { name: name.trim().to_owned(), arguments })
    });
    calls.collect()
}

fn calls_in_braces(text: &str) -> Vec<ToolCall> {
    static CALL: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"call:([\w.\-]+)\{([^{}]*)\}").expect("the pattern is valid"));
    let calls = CALL.captures_iter(text).map(|found| {
        let pairs = found[2].split(',').filter_map(|pair| pair.split_once(':'));
        let arguments = pairs.map(|(key, value)| (key.trim().to_owned(), scalar(value.trim())));
        ToolCall { name: found[1].to_owned(), arguments: arguments.collect() }
    });
    calls.collect()
}

/// A value written without JSON's quotes: a number, a truth value, or else a text.
fn scalar(text: &str) -> Value {
    let text = text.trim_start_matches("<|\"|>").trim_end_matches("<|\"|>");
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}
