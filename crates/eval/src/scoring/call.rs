//! Tool calls in an answer, held against the one that is expected.

use std::sync::LazyLock;

use chat_format::tool_calls;
use regex::Regex;
use serde_json::{Map, Value};

use super::json;
use super::patterns::pattern;

/// The most words around a call.
const MAX_WORDS: usize = 20;

/// Whether the answer makes exactly this call: no other one, few words around it, and none that take it back.
pub(crate) fn is_exactly(answer: &str, name: &str, arguments: &Map<String, Value>) -> bool {
    let calls = tool_calls::find(answer);
    let [call] = &calls[..] else { return false };
    let same = |found: &Map<String, Value>| json::same_fields(found, arguments, same_argument);
    call.name == name && call.arguments.as_object().is_some_and(same) && is_meant(answer)
}

/// Equality of an argument with the expected one. The expected value has the type of the tool's schema; Qwen's notation
/// writes texts without quotes and models quote numbers, so a scalar is compared as the expected type.
fn same_argument(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::String(found), Value::Number(_) | Value::Bool(_)) => {
            let found = serde_json::from_str(&found.trim().to_lowercase());
            found.is_ok_and(|found: Value| json::same(&found, expected))
        }
        (Value::Number(_) | Value::Bool(_), Value::String(expected)) => {
            let written = found.to_string();
            written == expected.trim()
        }
        (Value::Array(found), Value::Array(expected)) => {
            found.len() == expected.len()
                && found
                    .iter()
                    .zip(expected)
                    .all(|(found, expected)| same_argument(found, expected))
        }
        (Value::Object(found), Value::Object(expected)) => {
            json::same_fields(found, expected, same_argument)
        }
        _ => json::same(found, expected),
    }
}

/// Whether the words around the call let it stand.
fn is_meant(answer: &str) -> bool {
    static TAKEN_BACK: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"(?i)\b(?:not|never|no|n't|cannot|\w+n't|won't|refuse|decline|would|instead|rather than|avoid|without|example)\b",
        )
    });
    let words = around(answer);
    words.split_whitespace().count() <= MAX_WORDS && !TAKEN_BACK.is_match(&words)
}

/// The words of the answer outside its call's braces, brackets and tags.
fn around(answer: &str) -> String {
    static TAGS: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"(?s)<function=.*?</function>|call:[\w.-]+\s*|</?[|\w]*tool_?[|\w]*>|<\|?/?tool_call\|?>|```\w*",
        )
    });
    let plain = TAGS.replace_all(answer, " ");
    let mut depth = 0_usize;
    let outside = plain.chars().filter(|c| {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                return false;
            }
            _ => {}
        }
        depth == 0
    });
    outside.collect()
}
