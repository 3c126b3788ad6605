//! Reads the shapes in which data sets store a conversation.

use std::borrow::Cow;

use serde_json::Value;

use super::report::{Event, Shape, Tally};
use super::walk;
use crate::draft::content;
use crate::draft::{At, Chat, Draft};
use crate::raw::{Fields, Raw};
use crate::{Problem, Role};

/// Whether some shape gives the key a meaning. Where such a key is null, it is absent: joined data sets have every column of
/// every part.
pub(super) fn is_key(key: &str) -> bool {
    matches!(
        key,
        "messages"
            | "conversations"
            | "instruction"
            | "input"
            | "output"
            | "history"
            | "prompt"
            | "completion"
            | "text"
            | "system"
            | "tools"
            | "functions"
            | "request"
            | "response"
    )
}

/// Reads a row of any shape. Keys that are not part of the shape are kept.
pub(super) fn read<'a>(raw: Raw<'a>, notes: &mut Tally) -> Result<Chat<'a>, Problem> {
    let mut fields = match raw {
        Raw::Object(fields) => fields,
        // A bare list of messages.
        Raw::Array(items) if matches!(items.first(), Some(Raw::Object(_))) => {
            let mut fields = Fields::default();
            fields.insert("messages", Raw::Array(items));
            fields
        }
        other => return Err(Problem::value("", "a JSON object", &other.into())),
    };
    fields.retain(|key, value| !(matches!(value, Raw::Null) && is_key(key)));
    let mut reader = Reader { fields, ignored: Vec::new() };
    let (shape, messages) = reader.shape()?;
    notes.note(Event::Shape(shape));
    let system = reader.system()?;
    let tools = reader.tools()?;
    reader.ignored.into_iter().for_each(|path| notes.note(Event::Ignored(path)));
    Ok(Chat { messages, tools, meta: reader.fields, system })
}

struct Reader<'a> {
    fields: Fields<'a>,
    /// The paths of keys that are left out.
    ignored: Vec<String>,
}

impl<'a> Reader<'a> {
    fn shape(&mut self) -> Result<(Shape, Vec<Draft<'a>>), Problem> {
        let fields = &self.fields;
        Ok(if fields.has("messages") {
            (Shape::Messages, self.list("messages", "an array of messages")?)
        } else if fields.has("conversations") {
            (Shape::Conversations, self.list("conversations", "a list of turns")?)
        } else if fields.has("request") && fields.has("response") {
            (Shape::Log, self.log()?)
        } else if fields.has("instruction") {
            (Shape::Alpaca, self.alpaca()?)
        } else if fields.has("prompt") {
            (Shape::PromptCompletion, self.prompt_completion()?)
        } else if fields.has("text") {
            (Shape::Text, self.whole_text()?)
        } else {
            let known = "`messages`, `conversations`, `instruction`, `prompt` or `text`";
            let keys: Vec<_> = fields.keys().take(8).map(|key| format!("`{key}`")).collect();
            let found = if keys.is_empty() { "no key".to_owned() } else { keys.join(", ") };
            return Err(Problem::new("", known, found));
        })
    }

    fn list(&mut self, key: &str, expected: &str) -> Result<Vec<Draft<'a>>, Problem> {
        let turns = match self.fields.take(key) {
            Some(Raw::Array(turns)) if turns.is_empty() => {
                return Err(Problem::new(key, "at least one message", "an empty array"));
            }
            Some(Raw::Array(turns)) => turns,
            other => {
                return Err(Problem::value(key, expected, &other.unwrap_or_default().into()));
            }
        };
        self.turns(key, turns)
    }

    fn turns(&mut self, key: &str, turns: Vec<Raw<'a>>) -> Result<Vec<Draft<'a>>, Problem> {
        let mut messages = Vec::with_capacity(turns.len());
        for (index, mut turn) in turns.into_iter().enumerate() {
            // ShareGPT's names for the same fields.
            if let Raw::Object(keys) = &mut turn {
                for (theirs, ours) in [("from", "role"), ("value", "content")] {
                    if !keys.has(ours)
                        && let Some(value) = keys.take(theirs)
                    {
                        keys.insert(ours, value);
                    }
                }
            }
            content::messages(turn, At::item(key, index), &mut messages, &mut self.ignored)?;
        }
        Ok(messages)
    }

    fn alpaca(&mut self) -> Result<Vec<Draft<'a>>, Problem> {
        let mut messages = self.history()?;
        let instruction = required(&mut self.fields, "instruction")?;
        let question = match optional(&mut self.fields, "input")? {
            Some(input) if instruction.is_empty() => input,
            Some(input) => format!("{instruction}\n\n{input}").into(),
            None => instruction,
        };
        let answer = required(&mut self.fields, "output")?;
        messages.extend([Draft::new(Role::User, question), Draft::new(Role::Assistant, answer)]);
        Ok(messages)
    }

    /// Earlier rounds: a list of pairs of question and answer.
    fn history(&mut self) -> Result<Vec<Draft<'a>>, Problem> {
        let rounds = match self.fields.take("history") {
            None => return Ok(Vec::new()),
            Some(Raw::Array(rounds)) => rounds,
            Some(other) => {
                let expected = "a list of pairs of question and answer";
                return Err(Problem::value("history", expected, &other.into()));
            }
        };
        let mut messages = Vec::new();
        for (index, round) in rounds.into_iter().enumerate() {
            let pair = match round {
                Raw::Array(pair) => <[Raw<'a>; 2]>::try_from(pair).map_err(Raw::Array),
                other => Err(other),
            };
            match pair {
                Ok([Raw::Text(question), Raw::Text(answer)]) => messages.extend([
                    Draft::new(Role::User, question),
                    Draft::new(Role::Assistant, answer),
                ]),
                other => {
                    let found =
                        other.map_or_else(Value::from, |pair| Raw::Array(pair.into()).into());
                    let at = format!("history[{index}]");
                    return Err(Problem::value(at, "a question and its answer", &found));
                }
            }
        }
        Ok(messages)
    }

    fn prompt_completion(&mut self) -> Result<Vec<Draft<'a>>, Problem> {
        let prompt = self.fields.take("prompt");
        let completion = self.fields.take("completion");
        if let Some(Raw::Text(prompt)) = &prompt
            && walk::is_conversation(prompt)
        {
            return Ok(vec![Draft::new(Role::User, rendered(prompt, completion)?)]);
        }
        let mut messages = Vec::new();
        let parts = [("prompt", Role::User, prompt), ("completion", Role::Assistant, completion)];
        for (key, role, value) in parts {
            match value {
                Some(Raw::Array(items)) => messages.append(&mut self.turns(key, items)?),
                other => messages.push(Draft::new(role, text(other, key)?)),
            }
        }
        Ok(messages)
    }

    fn whole_text(&mut self) -> Result<Vec<Draft<'a>>, Problem> {
        let text = required(&mut self.fields, "text")?;
        if !walk::is_conversation(&text) {
            return Err(Problem::new("text", "a conversation in a model's markup", "plain text"));
        }
        Ok(vec![Draft::new(Role::User, text)])
    }

    /// A request to a server and its response, as OpenAI, Anthropic and Ollama have them. What is not part of the
    /// conversation stays in both.
    fn log(&mut self) -> Result<Vec<Draft<'a>>, Problem> {
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

    /// The system prompt beside the messages: a text, or a list of text parts.
    fn system(&mut self) -> Result<Option<Cow<'a, str>>, Problem> {
        let Some(system) = self.fields.take("system") else { return Ok(None) };
        Ok(Some(content::plain(system, "system")?).filter(|text| !text.is_empty()))
    }

    /// The declarations of tools: a list, or the same as JSON text; under `functions` without their frame.
    fn tools(&mut self) -> Result<Vec<Raw<'a>>, Problem> {
        let tools = declarations("tools", self.fields.take("tools"))?;
        if !tools.is_empty() {
            return Ok(tools);
        }
        let functions = declarations("functions", self.fields.take("functions"))?;
        let frame = |function| {
            let mut tool = Fields::default();
            tool.insert("type", Raw::Text("function".into()));
            tool.insert("function", function);
            Raw::Object(tool)
        };
        Ok(functions.into_iter().map(frame).collect())
    }
}

/// A rendered prompt and its completion as one text.
fn rendered<'a>(prompt: &str, completion: Option<Raw<'a>>) -> Result<Cow<'a, str>, Problem> {
    match completion {
        None => Ok(Cow::Owned(prompt.to_owned())),
        Some(Raw::Text(answer)) if walk::awaits_answer(prompt) => {
            Ok(Cow::Owned(format!("{prompt}{answer}")))
        }
        Some(Raw::Text(_)) => {
            let expected = "a rendered prompt that ends where the assistant's turn begins";
            Err(Problem::new("prompt", expected, "one that ends elsewhere"))
        }
        Some(other) => Err(Problem::value("completion", "a text", &other.into())),
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

fn declarations<'a>(key: &str, field: Option<Raw<'a>>) -> Result<Vec<Raw<'a>>, Problem> {
    let expected = "an array of declarations";
    match field {
        None => Ok(Vec::new()),
        Some(Raw::Array(tools)) => Ok(tools),
        Some(Raw::Text(text)) if text.trim().is_empty() => Ok(Vec::new()),
        Some(Raw::Text(text)) => match serde_json::from_str(&text) {
            Ok(Value::Array(tools)) => Ok(tools.into_iter().map(Raw::from).collect()),
            Ok(Value::Null) => Ok(Vec::new()),
            _ => Err(Problem::value(key, expected, &Value::String(text.into_owned()))),
        },
        Some(other) => Err(Problem::value(key, expected, &other.into())),
    }
}

fn object<'a>(fields: &mut Fields<'a>, key: &str) -> Result<Fields<'a>, Problem> {
    match fields.take(key) {
        Some(Raw::Object(object)) => Ok(object),
        other => Err(Problem::value(key, "an object", &other.unwrap_or_default().into())),
    }
}

fn required<'a>(fields: &mut Fields<'a>, key: &str) -> Result<Cow<'a, str>, Problem> {
    text(fields.take(key), key)
}

fn text<'a>(field: Option<Raw<'a>>, key: &str) -> Result<Cow<'a, str>, Problem> {
    match field {
        Some(Raw::Text(text)) => Ok(text),
        Some(other) => Err(Problem::value(key, "a text", &other.into())),
        None => Err(Problem::missing(key, "a text")),
    }
}

/// A text that may be absent or empty.
fn optional<'a>(fields: &mut Fields<'a>, key: &str) -> Result<Option<Cow<'a, str>>, Problem> {
    match fields.take(key) {
        None => Ok(None),
        Some(Raw::Text(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(other) => Err(Problem::value(key, "a text", &other.into())),
    }
}
