//! Reads one message of a row: OpenAI's fields, old and new, and the content blocks of Anthropic and OpenAI.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::draft::{At, Draft};
use crate::raw::{Fields, Raw};
use crate::tool_calls::{decode_arguments, from_json};
use crate::{Problem, Role, ToolCall, json};

/// Parses a message and appends it: several, if its parts hold results of tools. The paths of keys that have no place in a
/// clean message are appended to `ignored`.
pub(crate) fn messages<'a>(
    raw: Raw<'a>,
    at: At<'_>,
    messages: &mut Vec<Draft<'a>>,
    ignored: &mut Vec<String>,
) -> Result<(), Problem> {
    let mut fields = match raw {
        Raw::Object(fields) => fields,
        other => {
            let expected = "an object with `role` and `content`";
            return Err(Problem::value(at.to_string(), expected, &other.into()));
        }
    };
    let role = match fields.take("role") {
        Some(Raw::Text(name)) if is_call(&name) && !fields.has("tool_calls") => {
            call_from_content(&mut fields, at)?;
            Role::Assistant
        }
        Some(Raw::Text(name)) => Role::parse(&name).ok_or_else(|| {
            Problem::new(format!("{at}.role"), Role::EXPECTED, format!("{name:?}"))
        })?,
        Some(other) => {
            return Err(Problem::value(format!("{at}.role"), Role::EXPECTED, &other.into()));
        }
        None => return Err(Problem::missing(format!("{at}.role"), Role::EXPECTED)),
    };
    let mut message = Draft::new(role, "");
    message.tool_calls = calls(&mut fields, at, ignored)?;
    message.reasoning_content = reasoning(&mut fields, at)?;
    message.name = text(&mut fields, "name", at)?;
    message.tool_call_id = text(&mut fields, "tool_call_id", at)?;
    message.train = train(&mut fields, at)?;
    let harmony = channel(&mut fields);
    match fields.take("content") {
        Some(Raw::Text(text)) => message.content = text,
        Some(Raw::Array(parts)) => {
            let pieces = Vec::new();
            let mut reader = Parts { at, message, messages, ignored, pieces, results: false };
            for (index, part) in parts.into_iter().enumerate() {
                reader.part(part, index)?;
            }
            message = reader.finish();
        }
        None | Some(Raw::Null) if !message.tool_calls.is_empty() => {}
        // OpenAI's place for the words of an answer that is one.
        None | Some(Raw::Null) if matches!(fields.get("refusal"), Some(Raw::Text(_))) => {
            message.content = required(&mut fields, "refusal", &at.to_string())?;
        }
        None => return Err(Problem::missing(format!("{at}.content"), "a text")),
        Some(other) => {
            return Err(Problem::value(format!("{at}.content"), "a text", &other.into()));
        }
    }
    if let Some((channel, recipient)) = harmony.filter(|_| role == Role::Assistant) {
        let words = std::mem::take(&mut message.content);
        match recipient {
            Some(function) => {
                let call = ToolCall::new(function, Map::new());
                let arguments = decode_arguments(words.into_owned());
                message.tool_calls.push(ToolCall { arguments, ..call });
            }
            None if channel == "analysis" => message.reasoning_content = Some(words),
            None => message.content = words,
        }
    }
    if let Some((key, _)) =
        fields.iter().find(|(key, value)| *key == "images" && !value.is_nothing())
    {
        // Ollama's place for them.
        return Err(Problem::new(format!("{at}.{key}"), "a message of text alone", "images"));
    }
    note_rest(&fields, at.name(), "[]", ignored);
    // Reasoning in a message of its own belongs to the answer after it.
    if let Some(last) = messages.last()
        && [last.role, role] == [Role::Assistant; 2]
        && last.content.is_empty()
        && last.tool_calls.is_empty()
        && message.reasoning_content.is_none()
        && let Some(last) = messages.pop_if(|last| last.reasoning_content.is_some())
    {
        message.reasoning_content = last.reasoning_content;
    }
    messages.push(message);
    Ok(())
}

/// Whether a role is that of an assistant's turn whose content is a call (ShareGPT's rows, LLaMA-Factory, ms-swift).
fn is_call(role: &str) -> bool {
    matches!(role, "function_call" | "tool_call")
}

/// Moves a call, or a list of calls, that a content holds as JSON to where calls belong.
fn call_from_content(fields: &mut Fields<'_>, at: At<'_>) -> Result<(), Problem> {
    let content = fields.take("content").map(Value::from).unwrap_or_default();
    let calls = match &content {
        Value::String(text) => json::parse(text.as_bytes()).unwrap_or_default(),
        other => other.clone(),
    };
    let calls = match calls {
        Value::Array(calls) => calls,
        call @ Value::Object(_) => vec![call],
        _ => {
            let expected = "a call as JSON, with `name` and `arguments`";
            return Err(Problem::value(format!("{at}.content"), expected, &content));
        }
    };
    fields.insert("tool_calls", Value::Array(calls).into());
    Ok(())
}

/// Names the keys that are left, but for those that are null.
fn note_rest(fields: &Fields<'_>, list: &str, part: &str, ignored: &mut Vec<String>) {
    let present = fields.iter().filter(|(_, value)| !matches!(value, Raw::Null));
    ignored.extend(present.map(|(key, _)| format!("{list}{part}.{key}")));
}

/// The channel of a harmony message, and the function that it calls. Both keys stay if there is no channel.
fn channel<'a>(fields: &mut Fields<'a>) -> Option<(Cow<'a, str>, Option<String>)> {
    match fields.take("channel")? {
        Raw::Text(channel) if matches!(&*channel, "analysis" | "commentary" | "final") => {
            let recipient = fields.take("recipient");
            let function = match &recipient {
                Some(Raw::Text(to)) => to.strip_prefix("functions.").map(str::to_owned),
                _ => None,
            };
            if let (None, Some(recipient)) = (&function, recipient) {
                fields.insert("recipient", recipient);
            }
            Some((channel, function))
        }
        other => {
            fields.insert("channel", other);
            None
        }
    }
}

/// The parts of one content, read in order.
struct Parts<'p, 'a> {
    at: At<'p>,
    message: Draft<'a>,
    messages: &'p mut Vec<Draft<'a>>,
    ignored: &'p mut Vec<String>,
    pieces: Vec<Cow<'a, str>>,
    /// Whether results of tools were among the parts.
    results: bool,
}

impl<'a> Parts<'_, 'a> {
    fn part(&mut self, part: Raw<'a>, index: usize) -> Result<(), Problem> {
        let at = || format!("{}.content[{index}]", self.at);
        let mut fields = match part {
            Raw::Text(text) => {
                self.pieces.push(text);
                return Ok(());
            }
            Raw::Object(fields) => fields,
            other => return Err(Problem::value(at(), "a text part", &other.into())),
        };
        let kind = match fields.take("type") {
            Some(Raw::Text(kind)) => kind,
            None if fields.has("text") => "text".into(),
            _ => return Err(Problem::new(at(), "a text part", "a part without a type")),
        };
        match (&*kind, self.message.role) {
            ("text" | "input_text" | "output_text", _) => {
                // LLaMA-Factory's parts have their text under `value`.
                let key = if fields.has("text") { "text" } else { "value" };
                let text = required(&mut fields, key, &at())?;
                self.pieces.push(text);
            }
            ("refusal", _) => {
                let text = required(&mut fields, "refusal", &at())?;
                self.pieces.push(text);
            }
            ("thinking" | "reasoning", Role::Assistant) => {
                let key = if fields.has("value") { "value" } else { "thinking" };
                let thought = required(&mut fields, key, &at())?;
                // It proves to the server that the reasoning is the model's.
                fields.take("signature");
                match &mut self.message.reasoning_content {
                    Some(earlier) => {
                        earlier.to_mut().push_str("\n\n");
                        earlier.to_mut().push_str(&thought);
                    }
                    none => *none = Some(thought),
                }
            }
            ("tool_use", Role::Assistant) => {
                let mut call = Map::new();
                for (theirs, ours) in [("id", "id"), ("name", "name"), ("input", "arguments")] {
                    let value = fields.take(theirs).map(Value::from);
                    call.extend(value.map(|value| (ours.to_owned(), value)));
                }
                self.message.tool_calls.push(from_json(call.into(), &at())?);
            }
            ("tool_call", Role::Assistant) => {
                let call = required(&mut fields, "value", &at())?;
                let call =
                    json::parse(call.as_bytes()).unwrap_or_else(|_| call.into_owned().into());
                self.message.tool_calls.push(from_json(call, &at())?);
            }
            ("tool_result", Role::User | Role::Tool) => {
                let mut result = Draft::new(Role::Tool, "");
                result.tool_call_id = self::text(&mut fields, "tool_use_id", self.at)?;
                result.content = match fields.take("content") {
                    None | Some(Raw::Null) => Cow::default(),
                    Some(content) => {
                        let path = format!("{}[].content[].content", self.at.name());
                        plain(content, &format!("{}.content", at()), &path, self.ignored)?
                    }
                };
                // Words before the result stay before it.
                if !self.pieces.is_empty() {
                    let words = join(std::mem::take(&mut self.pieces));
                    self.messages.push(Draft::new(self.message.role, words));
                }
                self.messages.push(result);
                self.results = true;
            }
            _ => return Err(Problem::new(at(), "a text part", format!("a part of type {kind:?}"))),
        }
        note_rest(&fields, self.at.name(), "[].content[]", self.ignored);
        Ok(())
    }

    /// The message that the parts make: the last result, if no words follow the results.
    fn finish(mut self) -> Draft<'a> {
        if self.pieces.is_empty()
            && self.results
            && let Some(last) = self.messages.pop()
        {
            return last;
        }
        self.message.content = join(self.pieces);
        self.message
    }
}

/// Joins parts by line breaks.
fn join(mut pieces: Vec<Cow<'_, str>>) -> Cow<'_, str> {
    match pieces.len() {
        0 | 1 => pieces.pop().unwrap_or_default(),
        _ => pieces.join("\n").into(),
    }
}

/// A text, or a list of text parts.
/// `path` names its keys in the report.
pub(crate) fn plain<'a>(
    raw: Raw<'a>,
    at: &str,
    path: &str,
    ignored: &mut Vec<String>,
) -> Result<Cow<'a, str>, Problem> {
    let parts = match raw {
        Raw::Text(text) => return Ok(text),
        Raw::Array(parts) => parts,
        other => return Err(Problem::value(at, "a text", &other.into())),
    };
    let mut pieces = Vec::with_capacity(parts.len());
    for (index, part) in parts.into_iter().enumerate() {
        let at = format!("{at}[{index}]");
        match part {
            Raw::Text(text) => pieces.push(text),
            Raw::Object(mut fields) if fields.has("text") => {
                pieces.push(required(&mut fields, "text", &at)?);
                fields.take("type");
                note_rest(&fields, path, "[]", ignored);
            }
            other => return Err(Problem::value(at, "a text part", &other.into())),
        }
    }
    Ok(join(pieces))
}

fn required<'a>(fields: &mut Fields<'a>, key: &str, at: &str) -> Result<Cow<'a, str>, Problem> {
    match fields.take(key) {
        Some(Raw::Text(text)) => Ok(text),
        Some(other) => Err(Problem::value(format!("{at}.{key}"), "a text", &other.into())),
        None => Err(Problem::missing(format!("{at}.{key}"), "a text")),
    }
}

fn text<'a>(
    fields: &mut Fields<'a>,
    key: &str,
    at: At<'_>,
) -> Result<Option<Cow<'a, str>>, Problem> {
    match fields.take(key) {
        None | Some(Raw::Null) => Ok(None),
        Some(Raw::Text(text)) => Ok(Some(text)),
        Some(other) => Err(Problem::value(format!("{at}.{key}"), "a text", &other.into())),
    }
}

/// The reasoning under any of its names. A second one with other words stays, and is named.
fn reasoning<'a>(fields: &mut Fields<'a>, at: At<'_>) -> Result<Option<Cow<'a, str>>, Problem> {
    let mut found = text(fields, "reasoning_content", at)?;
    for key in ["thinking", "reasoning"] {
        match fields.take(key) {
            Some(Raw::Text(text)) if found.is_none() => found = Some(text),
            Some(Raw::Text(text)) if found.as_deref() == Some(&*text) => {}
            Some(other) => fields.insert(key, other),
            None => {}
        }
    }
    Ok(found)
}

fn train(fields: &mut Fields<'_>, at: At<'_>) -> Result<Option<bool>, Problem> {
    // OpenAI's fine-tuning files use `weight`, 0 or 1, for the same purpose; LLaMA-Factory's `loss_weight`.
    let weight = if fields.has("weight") { "weight" } else { "loss_weight" };
    match (fields.take("train"), fields.take(weight)) {
        (None | Some(Raw::Null), None | Some(Raw::Null)) => Ok(None),
        (Some(Raw::Bool(train)), _) => Ok(Some(train)),
        (None | Some(Raw::Null), Some(Raw::Number(weight))) => {
            Ok(Some(weight.as_f64() != Some(0.0)))
        }
        (Some(Raw::Null) | None, Some(other)) | (Some(other), _) => {
            Err(Problem::value(format!("{at}.train"), "true or false", &other.into()))
        }
    }
}

/// The calls under `tool_calls`, or the one under `function_call`, its older name.
fn calls(
    fields: &mut Fields<'_>,
    at: At<'_>,
    ignored: &mut Vec<String>,
) -> Result<Vec<ToolCall>, Problem> {
    let calls = match fields.take("tool_calls") {
        None | Some(Raw::Null) => Vec::new(),
        Some(Raw::Array(calls)) => calls
            .into_iter()
            .enumerate()
            .inspect(|(_, call)| note_call(call, at.name(), "tool_calls[]", ignored))
            .map(|(index, call)| from_json(call.into(), &format!("{at}.tool_calls[{index}]")))
            .collect::<Result<_, _>>()?,
        Some(other) => {
            let at = format!("{at}.tool_calls");
            return Err(Problem::value(at, "an array of calls", &other.into()));
        }
    };
    if !calls.is_empty() {
        return Ok(calls);
    }
    match fields.take("function_call") {
        None | Some(Raw::Null) => Ok(calls),
        Some(call) => {
            note_call(&call, at.name(), "function_call", ignored);
            Ok(vec![from_json(call.into(), &format!("{at}.function_call"))?])
        }
    }
}

/// Names the keys of a call that have no place in a clean one.
fn note_call(call: &Raw<'_>, list: &str, key: &str, ignored: &mut Vec<String>) {
    let Raw::Object(outer) = call else { return };
    let inner = match outer.get("function") {
        Some(Raw::Object(function)) => Some(function),
        _ => None,
    };
    let arguments =
        if inner.unwrap_or(outer).has("arguments") { "arguments" } else { "parameters" };
    let function = |name: &str| name == "name" || name == arguments;
    let used = |name: &str, value: &Raw<'_>| match (name, value) {
        (_, Raw::Null) | ("id", Raw::Text(_)) => true,
        ("type", Raw::Text(kind)) => kind == "function",
        ("function", _) => inner.is_some(),
        _ => inner.is_none() && function(name),
    };
    let outer = outer.iter().filter(|(name, value)| !used(name, value));
    let inner = inner.into_iter().flat_map(Fields::iter);
    let inner = inner.filter(|(name, value)| !function(name) && !matches!(value, Raw::Null));
    ignored.extend(outer.chain(inner).map(|(name, _)| format!("{list}[].{key}.{name}")));
}
