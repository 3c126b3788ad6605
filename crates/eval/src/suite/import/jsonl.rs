//! JSONL of prompts with expected answers.

use std::path::Path;

use serde_json::{Map, Value};

use super::super::{Case, Speaker, Turn};
use super::{LeftOut, case, unique_ids};
use crate::error::{Error, Result};
use crate::scoring::Rule;

/// The cases of the lines, and what is left out of them.
pub(super) fn cases(path: &Path, text: &str) -> Result<(Vec<Case>, Vec<LeftOut>)> {
    let (mut cases, mut left_out) = (Vec::new(), Vec::new());
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let fields: Map<String, Value> = serde_json::from_str(line).map_err(|e| Error::Record {
            path: path.to_path_buf(),
            line: i + 1,
            problem: format!("expected an object with prompt and expected: {e}"),
        })?;
        let test = format!("line {}", i + 1);
        for key in fields.keys() {
            if !["id", "prompt", "expected", "system"].contains(&key.as_str()) {
                let reason = "the key is not used".to_owned();
                left_out.push(LeftOut { test: test.clone(), part: Some(key.clone()), reason });
            }
        }
        match one(&fields, i) {
            Ok(case) => cases.push(case),
            Err((part, reason)) => {
                left_out.push(LeftOut { test, part: Some(part.to_owned()), reason })
            }
        }
    }
    unique_ids(&mut cases);
    Ok((cases, left_out))
}

fn one(
    fields: &Map<String, Value>,
    index: usize,
) -> std::result::Result<Case, (&'static str, String)> {
    let text = |key: &'static str| match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) if key == "id" => Ok(Some(number.to_string())),
        Some(other) => Err((key, format!("expected a text, found {other}"))),
    };
    let prompt = text("prompt")?.filter(|prompt| !prompt.trim().is_empty());
    let prompt = prompt.ok_or_else(|| ("prompt", "expected a text, found none".to_owned()))?;
    let rule = rule(fields.get("expected").unwrap_or(&Value::Null)).map_err(|e| ("expected", e))?;
    let id = text("id")?.unwrap_or_else(|| format!("line-{}", index + 1));
    let turns = vec![Turn { role: Speaker::User, content: prompt }];
    Ok(case(id, text("system")?.unwrap_or_default(), turns, vec![rule]))
}

fn rule(expected: &Value) -> std::result::Result<Rule, String> {
    let number = |value: f64| Rule::Number { value, tolerance: 0.0, unit: None };
    let rule = match expected {
        Value::Number(value) => value.as_f64().map(number),
        Value::String(text) => Some(match text.trim().parse::<f64>() {
            Ok(value) if value.is_finite() => number(value),
            _ => Rule::ContainsAny { words: vec![text.trim().to_owned()] },
        }),
        Value::Array(texts) => {
            let words: Option<Vec<String>> =
                texts.iter().map(|text| text.as_str().map(str::to_owned)).collect();
            words.map(|words| Rule::ContainsAny { words })
        }
        _ => None,
    };
    let rule = rule
        .ok_or_else(|| format!("expected a text, a number or a list of texts, found {expected}"))?;
    rule.check().map_err(|e| e.to_string())?;
    Ok(rule)
}
