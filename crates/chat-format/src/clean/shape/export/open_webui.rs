//! Open WebUI: `chat.history.messages` is a tree of messages by id, `chat.history.currentId` the end of the current branch.

use super::{Reader, details};
use crate::Problem;
use crate::clean::shape::turns::{Turns, turn};
use crate::draft::Draft;
use crate::raw::{Fields, Raw};

const MESSAGES: &str = "chat.history.messages";

impl<'a> Reader<'a> {
    /// Reads an exported chat. What is not part of the conversation stays under `chat`.
    pub(super) fn open_webui(&mut self) -> Result<Vec<Draft<'a>>, Problem> {
        let mut chat = match self.fields.take("chat") {
            Some(Raw::Object(chat)) => chat,
            // A chat by itself.
            _ => std::mem::take(&mut self.fields),
        };
        let messages = self.current(&mut chat)?;
        if let Some(Raw::Object(params)) = chat.get_mut("params")
            && !self.fields.has("system")
            && let Some(system) = params.take("system")
        {
            self.fields.insert("system", system);
        }
        chat.retain(|_, value| !value.is_nothing());
        if !chat.is_empty() {
            self.fields.insert("chat", Raw::Object(chat));
        }
        let mut turns = Turns::default();
        for mut message in messages {
            for structure in ["id", "parentId", "childrenIds"] {
                message.take(structure);
            }
            check(&message)?;
            let answer = message.take_text("content");
            let role = message.take("role");
            let assistant = role.as_ref().and_then(Raw::as_text) == Some("assistant");
            let blank = answer.as_deref().is_none_or(|text| text.trim().is_empty());
            // Newer versions keep the pieces of an answer beside its text.
            if let Some(Raw::Array(items)) = message.get_mut("output")
                && assistant
                && blank
                && !items.is_empty()
            {
                let items = std::mem::take(items);
                self.items(items, &format!("{MESSAGES}[].output[]"), &mut turns)?;
                self.note_rest(&message, &format!("{MESSAGES}[]"));
                continue;
            }
            let split =
                assistant && answer.as_deref().is_some_and(|text| details::add(text, &mut turns));
            if !split {
                let content = answer.map(Raw::Text).or_else(|| message.take("content"));
                turns.message(turn(role.unwrap_or_default(), content.unwrap_or_default()));
            }
            self.note_rest(&message, &format!("{MESSAGES}[]"));
        }
        self.turns(MESSAGES, turns.finish())
    }

    /// The messages of the current branch, or of the flat list that a chat without a tree has.
    fn current(&mut self, chat: &mut Fields<'a>) -> Result<Vec<Fields<'a>>, Problem> {
        let flat = chat.take("messages");
        let (nodes, current) = match chat.take("history") {
            Some(Raw::Object(mut history)) => {
                let tree = (history.take("messages"), history.take("currentId"));
                self.note_rest(&history, "chat.history");
                tree
            }
            None | Some(Raw::Null) => (None, None),
            Some(other) => {
                return Err(Problem::value("chat.history", "an object", &other.into()));
            }
        };
        match (nodes.filter(|nodes| !nodes.is_nothing()), current) {
            (Some(Raw::Object(nodes)), Some(Raw::Text(current))) => {
                // The same branch once more, in older versions.
                let copy = flat.filter(|flat| !flat.is_nothing());
                self.ignored.extend(copy.map(|_| "chat.messages".to_owned()));
                self.branch(nodes, &current, "parentId", MESSAGES)
            }
            (None, _) => messages(flat.unwrap_or_default()),
            _ => Err(Problem::missing("chat.history.currentId", "the id of the last message")),
        }
    }
}

/// The messages of a flat list.
fn messages(list: Raw<'_>) -> Result<Vec<Fields<'_>>, Problem> {
    let items = match list {
        Raw::Array(items) => items,
        other => return Err(Problem::value("chat.messages", "a list of messages", &other.into())),
    };
    let message = |item| match item {
        Raw::Object(message) => Ok(message),
        other => Err(Problem::value("chat.messages[]", "a message", &Raw::into(other))),
    };
    items.into_iter().map(message).collect()
}

/// Refuses a message whose answer failed, or that holds an image.
fn check(message: &Fields<'_>) -> Result<(), Problem> {
    let failed = message.get("error").is_some_and(|error| !error.is_nothing());
    if failed {
        return Err(Problem::new(
            format!("{MESSAGES}[].error"),
            "an answer without an error",
            "one",
        ));
    }
    let image = |file: &Raw<'_>| file.get("type").and_then(Raw::as_text) == Some("image");
    match message.get("files") {
        Some(Raw::Array(files)) if files.iter().any(image) => {
            Err(Problem::new(format!("{MESSAGES}[].files"), "text", "an image"))
        }
        _ => Ok(()),
    }
}
