//! Exports of chat programs. Where a conversation has branches (an answer made again, a question edited), the current one
//! is read.

mod chatgpt;
mod claude;
mod details;
mod lm_studio;
mod open_webui;

use super::Reader;
use crate::clean::report::Shape;
use crate::draft::Draft;
use crate::raw::{Fields, Raw};
use crate::{Problem, problem};

/// The program that a row was exported from.
pub(super) fn program(fields: &Fields<'_>) -> Option<Shape> {
    let first = |key: &str| match fields.get(key) {
        Some(Raw::Array(items)) => items.first(),
        _ => None,
    };
    let holds =
        |value: Option<&Raw<'_>>, key: &str| value.is_some_and(|value| value.get(key).is_some());
    let chat = fields.get("chat");
    if holds(chat, "history")
        || holds(chat, "messages")
        || holds(fields.get("history"), "currentId")
    {
        Some(Shape::OpenWebUi)
    } else if matches!(fields.get("mapping"), Some(Raw::Object(_))) {
        Some(Shape::ChatGpt)
    } else if matches!(fields.get("chat_messages"), Some(Raw::Array(_))) {
        Some(Shape::Claude)
    } else if holds(first("messages"), "versions") {
        Some(Shape::LmStudio)
    } else {
        None
    }
}

impl<'a> Reader<'a> {
    /// Reads an export of the program.
    pub(super) fn export(&mut self, program: Shape) -> Result<Vec<Draft<'a>>, Problem> {
        match program {
            Shape::ChatGpt => self.chatgpt(),
            Shape::Claude => self.claude(),
            Shape::LmStudio => self.lm_studio(),
            _ => self.open_webui(),
        }
    }

    /// The messages of a tree from its root to `current`. Messages of other branches are named.
    fn branch(
        &mut self,
        mut nodes: Fields<'a>,
        current: &str,
        parent: &str,
        path: &str,
    ) -> Result<Vec<Fields<'a>>, Problem> {
        let mut branch = Vec::new();
        let mut next = Some(current.to_owned());
        while let Some(id) = next {
            // Taken out, no node comes twice: a circle ends at a missing one.
            let mut node = match nodes.take(&id) {
                Some(Raw::Object(node)) => node,
                other => {
                    let found = other
                        .map_or("nothing".to_owned(), |value| problem::describe(&value.into()));
                    return Err(Problem::new(format!("{path}.{id}"), "a message", found));
                }
            };
            next = match node.take(parent) {
                Some(Raw::Text(id)) => Some(id.into_owned()),
                _ => None,
            };
            branch.push(node);
        }
        branch.reverse();
        self.ignored.extend(nodes.keys().map(|_| format!("{path} of other branches")));
        Ok(branch)
    }
}
