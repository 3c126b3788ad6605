//! Requests to servers and their responses, as logs hold them.

use super::{Reader, decoded};
use crate::Problem;
use crate::draft::Draft;
use crate::raw::{Fields, Raw};

impl<'a> Reader<'a> {
    /// A request to a server and its response, as OpenAI, Anthropic and Ollama have them. What is not part of the
    /// conversation stays in both.
    pub(super) fn log(&mut self) -> Result<Vec<Draft<'a>>, Problem> {
        let mut request = object(&mut self.fields, "request")?;
        let mut response = object(&mut self.fields, "response")?;
        let mut turns = match request.take("messages") {
            Some(Raw::Array(turns)) => turns,
            other => {
                let found = other.unwrap_or_default().into();
                return Err(Problem::value("request.messages", "an array of messages", &found));
            }
        };
        for key in ["system", "tools", "functions"] {
            match request.take(key) {
                None | Some(Raw::Null) => {}
                Some(value) if self.fields.has(key) => request.insert(key, value),
                Some(value) => self.fields.insert(key, value),
            }
        }
        turns.push(reply(&mut response)?);
        for (key, rest) in [("request", request), ("response", response)] {
            if rest.keys().next().is_some() {
                self.fields.insert(key, Raw::Object(rest));
            }
        }
        self.turns("request.messages", turns)
    }
}

/// The assistant's message in a response. Of several choices the first is used; the others stay.
fn reply<'a>(response: &mut Fields<'a>) -> Result<Raw<'a>, Problem> {
    if let Some(Raw::Array(mut choices)) = response.take("choices") {
        let message = match choices.first_mut() {
            Some(Raw::Object(choice)) => choice.take("message"),
            _ => None,
        };
        let used =
            |choice: &Raw<'_>| matches!(choice, Raw::Object(rest) if rest.keys().next().is_none());
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
    let mut message = Fields::default();
    message.insert("role", response.take("role").unwrap_or(Raw::Text("assistant".into())));
    message.insert("content", content);
    Ok(Raw::Object(message))
}

fn object<'a>(fields: &mut Fields<'a>, key: &str) -> Result<Fields<'a>, Problem> {
    match fields.take(key).map(decoded) {
        Some(Raw::Object(object)) => Ok(object),
        other => Err(Problem::value(key, "an object", &other.unwrap_or_default().into())),
    }
}
