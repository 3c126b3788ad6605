//! The blocks of HTML that Open WebUI writes into answers: `<details type="reasoning">` and `<details type="tool_calls">`.

use std::borrow::Cow;

use serde_json::Value;

use crate::clean::shape::turns::Turns;
use crate::json;
use crate::raw::Raw;

/// Adds the turns of an answer. `false` if it has no such block; nothing is added then.
pub(super) fn add(answer: &str, turns: &mut Turns<'_>) -> bool {
    let (mut rest, mut found) = (answer, false);
    while let Some((before, block, after)) = next(rest) {
        found = true;
        add_words(before, turns);
        match block {
            Block::Reasoning(text) => turns.reasoning(text.into()),
            Block::Call { id, name, arguments, result } => {
                let id = id.map(|id| Raw::Text(id.into()));
                turns.call(id.clone(), Raw::Text(name.into()), arguments.into());
                if let Some(result) = result {
                    turns.result(id, result.into());
                }
            }
        }
        rest = after;
    }
    if found {
        add_words(rest, turns);
    }
    found
}

fn add_words(text: &str, turns: &mut Turns<'_>) {
    if !text.trim().is_empty() {
        turns.words(Cow::Owned(text.trim().to_owned()));
    }
}

enum Block {
    Reasoning(String),
    Call { id: Option<String>, name: String, arguments: Value, result: Option<String> },
}

/// The text before the first block, the block, and the text after it. Blocks begin a line, outside of code.
fn next(text: &str) -> Option<(&str, Block, &str)> {
    let (mut at, mut code) = (0, false);
    for line in text.split_inclusive('\n') {
        code ^= line.trim_start().starts_with("```");
        if !code && let Some((block, length)) = text.get(at..).and_then(block) {
            return Some((&text[..at], block, &text[at + length..]));
        }
        at += line.len();
    }
    None
}

/// The block that a text begins with, and its length.
fn block(text: &str) -> Option<(Block, usize)> {
    const END: &str = "</details>";
    let opening = text.strip_prefix("<details type=\"")?;
    let (kind, _) = opening.split_once('"')?;
    if !matches!(kind, "reasoning" | "tool_calls") {
        return None;
    }
    let tag = attributes_end(text)?;
    let body = text.get(tag..)?;
    // In reasoning, the words may hold the closing tag; it ends the block where it begins a line.
    let end = body.find(&format!("\n{END}")).map(|at| at + 1).or_else(|| body.find(END))?;
    let (head, body, length) = (&text[..tag], &body[..end], tag + end + END.len());
    let words = body.split_once("</summary>").map_or(body, |(_, words)| words).trim();
    if kind == "reasoning" {
        return Some((Block::Reasoning(unquoted(words)), length));
    }
    let attribute = |name| attribute(head, name).map(|value| unescaped(&value));
    let arguments = attribute("arguments").map_or(Value::Null, |text| decoded(&text));
    let result =
        attribute("result").or_else(|| Some(unescaped(words)).filter(|text| !text.is_empty()));
    let result = result.map(|text| match decoded(&text) {
        Value::String(text) => text,
        other => other.to_string(),
    });
    Some((Block::Call { id: attribute("id"), name: attribute("name")?, arguments, result }, length))
}

/// Where the opening tag ends: the first `>` outside of quotes.
fn attributes_end(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), byte) if open == byte => quote = None,
            _ => {}
        }
    }
    None
}

fn attribute(head: &str, name: &str) -> Option<String> {
    let value = ['"', '\''].into_iter().find_map(|quote| {
        let (_, value) = head.split_once(&format!(" {name}={quote}"))?;
        Some(value.split_once(quote)?.0.to_owned())
    });
    value.filter(|value| !value.is_empty())
}

/// JSON, which may be written as a JSON string once more; any other text is a string.
fn decoded(text: &str) -> Value {
    match json::parse(text.as_bytes()) {
        Ok(Value::String(inner)) => json::parse(inner.as_bytes())
            .ok()
            .filter(|value| value.is_object())
            .unwrap_or(Value::String(inner)),
        Ok(value) => value,
        Err(_) => Value::String(text.to_owned()),
    }
}

/// Reasoning without the quotation marks of Markdown before each line, which are escaped in newer versions.
fn unquoted(text: &str) -> String {
    let text = if text.starts_with("&gt;") { unescaped(text) } else { text.to_owned() };
    let line = |line: &str| {
        let line = line.strip_prefix('>').unwrap_or(line);
        line.strip_prefix(' ').unwrap_or(line).to_owned()
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Text with the entities of HTML that Python's and JavaScript's escaping write.
fn unescaped(text: &str) -> String {
    const ENTITIES: [(&str, char); 7] = [
        ("&amp;", '&'),
        ("&lt;", '<'),
        ("&gt;", '>'),
        ("&quot;", '"'),
        ("&#x27;", '\''),
        ("&#39;", '\''),
        ("&apos;", '\''),
    ];
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let entity = ENTITIES.iter().find(|(entity, _)| rest.starts_with(entity));
        let (length, c) = entity.map_or((1, '&'), |(entity, c)| (entity.len(), *c));
        out.push(c);
        rest = &rest[length..];
    }
    out + rest
}
