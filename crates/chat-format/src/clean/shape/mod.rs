//! Reads the shapes in which data sets store a conversation.

mod export;
mod log;
mod question;
mod turns;

use std::borrow::Cow;

use serde_json::Value;

use super::report::{Event, Shape, Tally};
use super::walk;
use crate::draft::content;
use crate::draft::{At, Chat, Draft};
use crate::raw::{Fields, Raw};
use crate::{Problem, Role, json};

/// The better of two answers, in rows of preferences. The worse one stays a key of the row.
const CHOSEN: &str = "chosen";

/// Placeholders of media that a row has under another key, which may be in the plural.
const MEDIA: [(&str, &str); 3] = [("<image>", "image"), ("<video>", "video"), ("<audio>", "audio")];

/// Whether the answer of a row for KTO is a good one, in LLaMA-Factory's rows. In TRL's it is `label` beside a `completion`.
pub(super) const KTO_TAG: &str = "kto_tag";

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
            | "question"
            | "query"
            | "answer"
            | "context"
            | CHOSEN
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
    if !fields.keys().any(is_key) {
        fields.rename(|key| Some(key.to_ascii_lowercase()).filter(|lower| is_key(lower)));
    }
    fields.retain(|key, value| !(matches!(value, Raw::Null) && is_key(key)));
    let mut reader = Reader { fields, ignored: Vec::new() };
    reader.refuse_bad_answer()?;
    let (shape, messages) = reader.shape()?;
    reader.refuse_media(&messages)?;
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
        Ok(if let Some(program) = export::program(fields) {
            (program, self.export(program)?)
        } else if log::is_log(fields) {
            (Shape::Log, self.log()?)
        } else if fields.has("messages") {
            (Shape::Messages, self.list("messages", "an array of messages")?)
        } else if fields.has("conversations") {
            (Shape::Conversations, self.list("conversations", "a list of turns")?)
        } else if matches!(fields.get("conversation"), Some(Raw::Array(_))) {
            // LMSYS-Chat and WildChat. Elsewhere the key may name the conversation.
            (Shape::Conversations, self.list("conversation", "a list of turns")?)
        } else if let Some(names) = question::Names::of(fields) {
            (names.shape(), self.question(names)?)
        } else if fields.has("text") {
            (Shape::Text, self.whole_text()?)
        } else {
            let known =
                "`messages`, `conversations`, `instruction`, `prompt`, `question` or `text`";
            let keys: Vec<_> = fields.keys().take(8).map(|key| format!("`{key}`")).collect();
            let found = if keys.is_empty() { "no key".to_owned() } else { keys.join(", ") };
            return Err(Problem::new("", known, found));
        })
    }

    fn list(&mut self, key: &str, expected: &str) -> Result<Vec<Draft<'a>>, Problem> {
        let turns = match self.fields.take(key).map(decoded) {
            // Some libraries store lists of objects as objects of lists.
            Some(Raw::Object(lists)) => lists.transposed().map_or_else(Raw::Object, Raw::Array),
            other => other.unwrap_or_default(),
        };
        let turns = match turns {
            Raw::Array(turns) if turns.is_empty() => {
                return Err(Problem::new(key, "at least one message", "an empty array"));
            }
            Raw::Array(turns) => turns,
            other => return Err(Problem::value(key, expected, &other.into())),
        };
        let mut messages = self.turns(key, turns)?;
        // LLaMA-Factory's rows of preferences have both answers beside the messages.
        let answered = messages.last().is_some_and(|last| last.role == Role::Assistant);
        if !answered && let chosen @ Some(_) = self.fields.take(CHOSEN) {
            messages.append(&mut self.side(CHOSEN, Role::Assistant, chosen)?);
        }
        Ok(messages)
    }

    /// Refuses an answer that is there to be learnt from as a bad one: training on rows would imitate it.
    fn refuse_bad_answer(&self) -> Result<(), Problem> {
        let is_false = |value: &Raw<'_>| match value {
            Raw::Bool(value) => !value,
            Raw::Text(text) => text.eq_ignore_ascii_case("false"),
            _ => false,
        };
        let label = self.fields.has("completion").then_some("label");
        match label
            .into_iter()
            .chain([KTO_TAG])
            .find(|key| self.fields.get(key).is_some_and(is_false))
        {
            Some(key) => Err(Problem::new(key, "true, for an answer to imitate", "false")),
            None => Ok(()),
        }
    }

    /// Refuses a row that is about images, videos or audio beside its messages, as LLaVA and LLaMA-Factory write them.
    fn refuse_media(&self, messages: &[Draft<'_>]) -> Result<(), Problem> {
        for (placeholder, name) in MEDIA {
            let is_named = |key: &str| key.strip_suffix('s').unwrap_or(key) == name;
            let mut full = self.fields.iter().filter(|(_, value)| !value.is_nothing());
            if let Some((key, _)) = full.find(|(key, _)| is_named(key))
                && messages.iter().any(|message| message.content.contains(placeholder))
            {
                let found = format!("`{placeholder}`, which stands for what is under the key");
                return Err(Problem::new(key, "messages of text alone", found));
            }
        }
        Ok(())
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

    /// Names the keys that are left, but for those that hold nothing.
    fn note_rest(&mut self, fields: &Fields<'_>, path: &str) {
        let full = fields.iter().filter(|(_, value)| !value.is_nothing());
        self.ignored.extend(full.map(|(key, _)| format!("{path}.{key}")));
    }

    fn whole_text(&mut self) -> Result<Vec<Draft<'a>>, Problem> {
        let text = text(self.fields.take("text"), "text")?;
        if !walk::is_conversation(&text) {
            return Err(Problem::new("text", "a conversation in a model's markup", "plain text"));
        }
        Ok(vec![Draft::new(Role::User, text)])
    }

    /// The system prompt beside the messages: a text, or a list of text parts.
    fn system(&mut self) -> Result<Option<Cow<'a, str>>, Problem> {
        let Some(system) = self.fields.take("system") else { return Ok(None) };
        let text = content::plain(system, "system", "system", &mut self.ignored)?;
        Ok(Some(text).filter(|text| !text.is_empty()))
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

/// A list or an object that is written as JSON text, as in columns of tables.
fn decoded(value: Raw<'_>) -> Raw<'_> {
    match value {
        Raw::Text(text) if text.trim_start().starts_with(['[', '{']) => {
            json::parse(text.as_bytes()).map_or(Raw::Text(text), Raw::from)
        }
        value => value,
    }
}

fn declarations<'a>(key: &str, field: Option<Raw<'a>>) -> Result<Vec<Raw<'a>>, Problem> {
    let expected = "an array of declarations";
    match field {
        None => Ok(Vec::new()),
        Some(Raw::Array(tools)) => Ok(tools),
        Some(Raw::Text(text)) if text.trim().is_empty() => Ok(Vec::new()),
        Some(Raw::Text(text)) => match json::parse(text.as_bytes()) {
            Ok(Value::Array(tools)) => Ok(tools.into_iter().map(Raw::from).collect()),
            Ok(Value::Null) => Ok(Vec::new()),
            _ => Err(Problem::value(key, expected, &Value::String(text.into_owned()))),
        },
        Some(other) => Err(Problem::value(key, expected, &other.into())),
    }
}

fn text<'a>(field: Option<Raw<'a>>, key: &str) -> Result<Cow<'a, str>, Problem> {
    match field {
        Some(Raw::Text(text)) => Ok(text),
        Some(other) => Err(Problem::value(key, "a text", &other.into())),
        None => Err(Problem::missing(key, "a text")),
    }
}
