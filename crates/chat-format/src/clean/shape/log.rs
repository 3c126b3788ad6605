//! Requests to servers and their responses, as logs hold them.

use std::borrow::Cow;

use super::turns::{Turns, message, turn};
use super::{Reader, decoded};
use crate::Problem;
use crate::draft::Draft;
use crate::raw::{Fields, Raw};

/// The keys under which a response holds the answer: OpenAI's, Ollama's, Anthropic's, and those of OpenAI's Responses.
const REPLIES: [&str; 4] = ["choices", "message", "content", "output"];

/// Whether a row is a request with its response: under `request` and `response`, or as a request that has its response
/// beside its messages.
pub(super) fn is_log(fields: &Fields<'_>) -> bool {
    if fields.has("request") {
        return fields.has("response") && !fields.has("messages") && !fields.has("conversations");
    }
    let answers = match fields.get("response") {
        Some(Raw::Object(response)) => REPLIES.iter().any(|key| response.has(key)),
        _ => false,
    };
    let from_assistant =
        |message: &Raw<'_>| message.get("role").and_then(Raw::as_text) == Some("assistant");
    answers
        && match fields.get("messages") {
            Some(Raw::Array(messages)) => !messages.last().is_some_and(from_assistant),
            _ => fields.has("input") && !fields.has("instruction"),
        }
}

impl<'a> Reader<'a> {
    /// Reads a log of OpenAI, Anthropic or Ollama. What is not part of the conversation stays in both.
    pub(super) fn log(&mut self) -> Result<Vec<Draft<'a>>, Problem> {
        let mut response = object(&mut self.fields, "response")?;
        let mut turns = Turns::default();
        let path = if self.fields.has("request") {
            let mut request = object(&mut self.fields, "request")?;
            self.request(&mut request, "request.", &mut turns)?;
            for key in ["system", "tools", "functions"] {
                match request.take(key) {
                    None | Some(Raw::Null) => {}
                    Some(value) if self.fields.has(key) => request.insert(key, value),
                    Some(value) => self.fields.insert(key, value),
                }
            }
            if !request.is_empty() {
                self.fields.insert("request", Raw::Object(request));
            }
            "request.messages"
        } else {
            let mut request = std::mem::take(&mut self.fields);
            self.request(&mut request, "", &mut turns)?;
            self.fields = request;
            "messages"
        };
        match response.take("output") {
            Some(Raw::Array(items)) => self.items(items, "response.output[]", &mut turns)?,
            output => {
                output.into_iter().for_each(|output| response.insert("output", output));
                turns.raw(reply(&mut response)?);
            }
        }
        if !response.is_empty() {
            self.fields.insert("response", Raw::Object(response));
        }
        self.turns(path, turns.finish())
    }

    /// The messages of a request, or the input of OpenAI's Responses.
    fn request(
        &mut self,
        request: &mut Fields<'a>,
        path: &str,
        turns: &mut Turns<'a>,
    ) -> Result<(), Problem> {
        if request.has("input") && !request.has("messages") {
            match request.take("input") {
                Some(Raw::Array(items)) => self.items(items, &format!("{path}input[]"), turns)?,
                Some(Raw::Text(text)) => turns.message(message("user", text)),
                other => {
                    let found = other.unwrap_or_default().into();
                    return Err(Problem::value(format!("{path}input"), "a text or items", &found));
                }
            }
            if !request.has("system")
                && let Some(instructions) = request.take("instructions")
            {
                request.insert("system", instructions);
            }
            return Ok(());
        }
        match request.take("messages") {
            Some(Raw::Array(messages)) => messages.into_iter().for_each(|turn| turns.raw(turn)),
            other => {
                let found = other.unwrap_or_default().into();
                let field = format!("{path}messages");
                return Err(Problem::value(field, "an array of messages", &found));
            }
        }
        Ok(())
    }

    /// The items of OpenAI's Responses: messages, reasoning, calls and their results.
    pub(super) fn items(
        &mut self,
        items: Vec<Raw<'a>>,
        path: &str,
        turns: &mut Turns<'a>,
    ) -> Result<(), Problem> {
        for item in items {
            let Raw::Object(mut item) = item else {
                return Err(Problem::value(path, "an object", &item.into()));
            };
            for structure in ["id", "status"] {
                item.take(structure);
            }
            let kind = item.take_text("type").unwrap_or("message".into());
            match &*kind {
                "message" => {
                    self.item_message(item, path, turns);
                    continue;
                }
                "reasoning" => {
                    for key in ["content", "summary"] {
                        let thoughts = self.texts(item.take(key), &format!("{path}.{key}"));
                        thoughts.into_iter().for_each(|thought| turns.reasoning(thought));
                    }
                }
                "function_call" => {
                    let (id, name) = (item.take("call_id"), item.take("name").unwrap_or_default());
                    turns.call(id, name, item.take("arguments").unwrap_or_default());
                }
                "function_call_output" => {
                    let output = match item.take("output") {
                        Some(Raw::Text(text)) => text,
                        other => self.texts(other, &format!("{path}.output")).join("\n").into(),
                    };
                    turns.result(item.take("call_id"), output);
                }
                _ => {
                    self.ignored.push(format!("{path} of type {kind:?}"));
                    continue;
                }
            }
            self.note_rest(&item, path);
        }
        Ok(())
    }
}

impl<'a> Reader<'a> {
    /// Adds a message. The words of an assistant belong to the turn of the calls and the reasoning around them.
    fn item_message(&mut self, mut item: Fields<'a>, path: &str, turns: &mut Turns<'a>) {
        let assistant = item.text("role") == Some("assistant");
        let parts = match item.get_mut("content") {
            Some(Raw::Array(parts)) if assistant && parts.iter().all(is_output_text) => {
                std::mem::take(parts)
            }
            _ => return turns.message(item),
        };
        for part in parts {
            let Raw::Object(mut part) = part else { continue };
            part.take("type");
            part.take_text("text").into_iter().for_each(|text| turns.words(text));
            self.note_rest(&part, &format!("{path}.content[]"));
        }
        ["role", "content"].iter().for_each(|key| drop(item.take(key)));
        self.note_rest(&item, path);
    }
}

impl<'a> Reader<'a> {
    /// The texts of a list of parts. What else it holds is named.
    fn texts(&mut self, parts: Option<Raw<'a>>, path: &str) -> Vec<Cow<'a, str>> {
        let (parts, other) = match parts {
            Some(Raw::Array(parts)) => (parts, None),
            other => (Vec::new(), other.filter(|other| !other.is_nothing())),
        };
        let mut texts = Vec::with_capacity(parts.len());
        let mut rest = |value: Raw<'a>| match value {
            Raw::Object(mut part) => {
                part.take("type");
                texts.extend(part.take_text("text"));
                part.iter().map(|(key, _)| format!("{path}[].{key}")).collect()
            }
            _ => vec![path.to_owned()],
        };
        self.ignored.extend(parts.into_iter().chain(other).flat_map(&mut rest));
        texts
    }
}

fn is_output_text(part: &Raw<'_>) -> bool {
    let text = |key: &str| part.get(key).and_then(Raw::as_text);
    text("type") == Some("output_text") && text("text").is_some()
}

/// The assistant's message in a response. Of several choices the first is used; the others stay.
fn reply<'a>(response: &mut Fields<'a>) -> Result<Raw<'a>, Problem> {
    let choices = match response.take("choices") {
        Some(Raw::Array(choices)) => Some(choices),
        other => {
            // Not a list of choices: it stays, to be named.
            other.into_iter().for_each(|other| response.insert("choices", other));
            None
        }
    };
    if let Some(mut choices) = choices {
        let message = match choices.first_mut() {
            Some(Raw::Object(choice)) => choice.take("message"),
            _ => None,
        };
        let used = |choice: &Raw<'_>| matches!(choice, Raw::Object(rest) if rest.is_empty());
        choices.retain(|choice| !used(choice));
        if !choices.is_empty() {
            response.insert("choices", Raw::Array(choices));
        }
        return message.ok_or_else(|| Problem::missing("response.choices[0].message", "a message"));
    }
    if let Some(message) = response.take("message") {
        return Ok(message);
    }
    let Some(content) = response.take("content") else {
        return Err(Problem::missing("response", "`choices`, `message` or `content`"));
    };
    let role = response.take("role").unwrap_or(Raw::Text("assistant".into()));
    Ok(Raw::Object(turn(role, content)))
}

fn object<'a>(fields: &mut Fields<'a>, key: &str) -> Result<Fields<'a>, Problem> {
    match fields.take(key).map(decoded) {
        Some(Raw::Object(object)) => Ok(object),
        other => Err(Problem::value(key, "an object", &other.unwrap_or_default().into())),
    }
}
