//! The two notations that are not JSON: Qwen 3.5's tags and Gemma 4's braces.

use serde_json::{Map, Number, Value};

use super::declared::Parameters;
use super::json_prefix;
use crate::{ToolCall, json};

const FUNCTION: &str = "<function=";
const CALL: &str = "call:";
const PARAMETER_END: &str = "</parameter>";
/// Gemma 4's quotation mark.
const QUOTE: &str = "<|\"|>";
/// Arguments that nest deeper are refused, so that the recursion is bounded.
const MAX_DEPTH: usize = 128;

/// How closely a text must follow its notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    /// As the model's template writes it.
    Exact,
    /// As models write it in an answer: text without quotes, white space between the parts, and parts that are not
    /// arguments, which are skipped.
    Lenient,
}

/// Whether a call in one of the two notations may begin here.
pub(super) fn opens(text: &str) -> bool {
    text.starts_with(FUNCTION) || text.starts_with(CALL)
}

/// The call that `text` begins with, and the text after it. Arguments in tags have the types that `tools` declare.
pub(super) fn read<'t>(
    text: &'t str,
    syntax: Syntax,
    tools: &[Value],
) -> Option<(ToolCall, &'t str)> {
    let mut cursor = Cursor { rest: text, syntax };
    let call = if cursor.eat(FUNCTION) {
        cursor.tags(tools)?
    } else if cursor.eat(CALL) {
        cursor.braces()?
    } else {
        return None;
    };
    Some((call, cursor.rest))
}

/// A JSON value. A number with a point or an exponent stands for the nearest of 64 bits, however many digits it has.
fn bare(text: &str) -> Option<Value> {
    let number = || serde_json::from_str::<Number>(text).ok();
    let decimal = text.contains(['.', 'e', 'E']).then(number).flatten().map(Value::Number);
    decimal.or_else(|| json::parse(text.as_bytes()).ok())
}

/// Text is not quoted in tags, so only valid JSON and Python's constants are read as other values.
fn literal(text: &str) -> Value {
    match text {
        "True" => Value::Bool(true),
        "False" => Value::Bool(false),
        "None" => Value::Null,
        _ => bare(text).unwrap_or_else(|| Value::String(text.to_owned())),
    }
}

/// The text before the tag that closes a parameter, and the text after that tag. The texts of a JSON array or object may
/// spell the tag.
fn parameter_text(text: &str) -> Option<(&str, &str)> {
    let json = json_prefix(text.trim_start());
    let rest = json.and_then(|(_, rest)| rest.trim_start().strip_prefix(PARAMETER_END));
    match rest {
        Some(rest) => Some((&text[..text.len() - rest.len() - PARAMETER_END.len()], rest)),
        None => text.split_once(PARAMETER_END),
    }
}

/// The fields of `{value:<|"|>text<|"|>}` after the opening brace, and the text after the closing one.
pub(super) fn fields(text: &str) -> Option<(Map<String, Value>, &str)> {
    let mut cursor = Cursor { rest: text, syntax: Syntax::Exact };
    Some((cursor.object(MAX_DEPTH)?, cursor.rest))
}

struct Cursor<'a> {
    rest: &'a str,
    syntax: Syntax,
}

impl Cursor<'_> {
    /// `NAME> <parameter=KEY> value </parameter> </function>`
    fn tags(&mut self, tools: &[Value]) -> Option<ToolCall> {
        let name = self.until(">").filter(|name| !name.is_empty())?;
        let declared = Parameters::of(tools, name.trim());
        let mut arguments = Map::new();
        loop {
            self.rest = self.rest.trim_start();
            if self.eat("</function>") {
                return Some(ToolCall::new(name.trim(), arguments));
            }
            match self.parameter(declared) {
                Some((key, value)) => {
                    arguments.insert(key, value);
                }
                None if self.is_lenient() && !self.rest.starts_with(FUNCTION) => {
                    let mut chars = self.rest.chars();
                    chars.next()?;
                    self.rest = chars.as_str();
                }
                None => return None,
            }
        }
    }

    fn parameter(&mut self, declared: Option<Parameters<'_>>) -> Option<(String, Value)> {
        let (key, rest) = self.rest.strip_prefix("<parameter=")?.split_once('>')?;
        let (text, rest) = parameter_text(rest)?;
        self.rest = rest;
        let (key, text) = match self.syntax {
            Syntax::Lenient => (key.trim(), text.trim()),
            Syntax::Exact => {
                let text = text.strip_prefix('\n').unwrap_or(text);
                (key, text.strip_suffix('\n').unwrap_or(text))
            }
        };
        let value = literal(text);
        let value = match declared {
            Some(declared) => declared.typed(key, text, value),
            None => value,
        };
        Some((key.to_owned(), value))
    }

    /// `NAME{key:<|"|>text<|"|>,other:1}`
    fn braces(&mut self) -> Option<ToolCall> {
        let name = self.until("{")?;
        let in_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
        if self.is_lenient() && (name.is_empty() || !name.chars().all(in_name)) {
            return None;
        }
        Some(ToolCall::new(name.trim(), self.object(MAX_DEPTH)?))
    }

    /// Reads up to the closing brace; the opening one has been read.
    fn object(&mut self, depth: usize) -> Option<Map<String, Value>> {
        let mut fields = Map::new();
        self.list("}", |cursor| {
            let key = cursor.key()?;
            if cursor.eat(":") {
                fields.insert(key, cursor.value(depth.checked_sub(1)?, '}')?);
                return Some(());
            }
            cursor.is_lenient().then_some(())
        })?;
        Some(fields)
    }

    /// Reads items that are separated by commas, up to and including `close`.
    fn list(&mut self, close: &str, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        if self.eat(close) {
            return Some(());
        }
        loop {
            item(self)?;
            if self.eat(close) {
                return Some(());
            }
            self.eat(",").then_some(())?;
        }
    }

    fn key(&mut self) -> Option<String> {
        if self.eat(QUOTE) {
            return self.until(QUOTE);
        }
        if self.is_lenient() {
            let end = self.rest.find([':', ',', '}'])?;
            return Some(self.take(end).trim().to_owned());
        }
        let end = self.rest.find(':')?;
        Some(self.take(end).to_owned())
    }

    /// Reads a value of an object or array that ends with `close`.
    fn value(&mut self, depth: usize, close: char) -> Option<Value> {
        if self.eat(QUOTE) {
            return self.until(QUOTE).map(Value::String);
        }
        if self.eat("{") {
            return self.object(depth).map(Value::Object);
        }
        if self.eat("[") {
            let mut items = Vec::new();
            self.list("]", |cursor| {
                items.push(cursor.value(depth.checked_sub(1)?, ']')?);
                Some(())
            })?;
            return Some(Value::Array(items));
        }
        match self.syntax {
            Syntax::Exact => {
                let end = self.rest.find([',', '}', ']'])?;
                bare(self.take(end).trim())
            }
            Syntax::Lenient => {
                let end = self.rest.find([',', close])?;
                Some(literal(self.take(end).trim()))
            }
        }
    }

    fn is_lenient(&self) -> bool {
        self.syntax == Syntax::Lenient
    }

    fn eat(&mut self, token: &str) -> bool {
        let rest = if self.is_lenient() { self.rest.trim_start() } else { self.rest };
        let after = rest.strip_prefix(token);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn until(&mut self, end: &str) -> Option<String> {
        let (text, rest) = self.rest.split_once(end)?;
        self.rest = rest;
        Some(text.to_owned())
    }

    fn take(&mut self, length: usize) -> &str {
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        text
    }
}
