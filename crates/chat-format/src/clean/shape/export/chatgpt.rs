//! ChatGPT: `mapping` is a tree of nodes by id, each with a message or none; `current_node` is the end of the current branch.

use super::Reader;
use crate::Problem;
use crate::clean::shape::turns::{Turns, turn};
use crate::draft::Draft;
use crate::raw::{Fields, Raw};

const NODES: &str = "mapping";
const MESSAGE: &str = "mapping[].message";

impl<'a> Reader<'a> {
    pub(super) fn chatgpt(&mut self) -> Result<Vec<Draft<'a>>, Problem> {
        let Some(Raw::Object(nodes)) = self.fields.take(NODES) else { return Ok(Vec::new()) };
        let Some(current) = self.fields.take_text("current_node") else {
            return Err(Problem::missing("current_node", "the id of the last message"));
        };
        let mut turns = Turns::default();
        for mut node in self.branch(nodes, &current, "parent", NODES)? {
            let message = node.take("message");
            for structure in ["id", "children"] {
                node.take(structure);
            }
            self.note_rest(&node, "mapping[]");
            if let Some(Raw::Object(message)) = message {
                self.chatgpt_message(message, &mut turns)?;
            }
        }
        self.turns(NODES, turns.finish())
    }

    fn chatgpt_message(
        &mut self,
        mut fields: Fields<'a>,
        turns: &mut Turns<'a>,
    ) -> Result<(), Problem> {
        let (role, name) = match fields.take("author") {
            Some(Raw::Object(mut author)) => {
                let used = (author.take_text("role"), author.take("name"));
                self.note_rest(&author, &format!("{MESSAGE}.author"));
                used
            }
            _ => (None, None),
        };
        let role = role.unwrap_or_default();
        let mut content = match fields.take("content") {
            Some(Raw::Object(content)) => content,
            other => {
                let found = other.unwrap_or_default().into();
                return Err(Problem::value(format!("{MESSAGE}.content"), "an object", &found));
            }
        };
        let kind = content.take_text("content_type").unwrap_or_default();
        let metadata = fields.get("metadata");
        let hidden = metadata.and_then(|of| of.get("is_visually_hidden_from_conversation"));
        let hidden = matches!(hidden, Some(Raw::Bool(true)));
        // Instructions of the program and of the account, which the chat does not show.
        if hidden || matches!(&*kind, "user_editable_context" | "model_editable_context") {
            let empty = content.iter().all(|(_, value)| match value {
                Raw::Array(parts) => parts.iter().all(Raw::is_nothing),
                value => value.is_nothing(),
            });
            if !empty {
                self.ignored.push(format!("{MESSAGE} hidden in the chat ({role}, {kind})"));
            }
            return Ok(());
        }
        let recipient = fields.take_text("recipient").filter(|to| to != "all");
        match (&*role, &*kind) {
            ("assistant", "thoughts") => self.thoughts(&mut content, turns),
            ("assistant", "reasoning_recap") => {
                self.ignored.push(format!("{MESSAGE}.content of type \"reasoning_recap\""));
                return Ok(());
            }
            ("assistant", "text" | "code") if recipient.is_some() => {
                let arguments = words(&mut content)?;
                let to = Raw::Text(recipient.unwrap_or_default());
                turns.call(None, to, arguments);
            }
            ("assistant", "text") => match words(&mut content)? {
                Raw::Text(text) if text.trim().is_empty() => {}
                Raw::Text(text) => turns.words(text),
                parts => {
                    turns.message(turn(Raw::Text(role), parts));
                }
            },
            (_, "text" | "multimodal_text" | "code" | "execution_output") => {
                let parts = words(&mut content)?;
                if role == "system" && matches!(&parts, Raw::Text(text) if text.trim().is_empty()) {
                    return Ok(());
                }
                let mut turn = turn(Raw::Text(role), parts);
                if let Some(name) = name.filter(|name| !name.is_nothing()) {
                    turn.insert("name", name);
                }
                turns.message(turn);
            }
            _ => {
                let found = format!("content of type {kind:?} from {role:?}");
                return Err(Problem::new(format!("{MESSAGE}.content"), "text", found));
            }
        }
        content.take("language");
        self.note_rest(&content, &format!("{MESSAGE}.content"));
        for structure in ["id", "end_turn", "weight"] {
            fields.take(structure);
        }
        if fields.text("status") == Some("finished_successfully") {
            fields.take("status");
        }
        self.note_rest(&fields, MESSAGE);
        Ok(())
    }

    fn thoughts(&mut self, content: &mut Fields<'a>, turns: &mut Turns<'a>) {
        let Some(Raw::Array(thoughts)) = content.take("thoughts") else { return };
        for thought in thoughts {
            let Raw::Object(mut thought) = thought else { continue };
            if let Some(words) = thought.take_text("content").filter(|text| !text.is_empty()) {
                turns.reasoning(words);
            }
            self.note_rest(&thought, &format!("{MESSAGE}.content.thoughts[]"));
        }
    }
}

/// The text of a content, or its parts if they are not all texts.
fn words<'a>(content: &mut Fields<'a>) -> Result<Raw<'a>, Problem> {
    if let Some(text) = content.take_text("text") {
        return Ok(Raw::Text(text));
    }
    match content.take("parts") {
        Some(Raw::Array(mut parts)) => match &parts[..] {
            [Raw::Text(_)] => Ok(parts.pop().unwrap_or_default()),
            _ => {
                // Images and audio are refused by their type.
                for part in &mut parts {
                    if let Raw::Object(part) = part
                        && let Some(kind) = part.take("content_type")
                    {
                        part.insert("type", kind);
                    }
                }
                Ok(Raw::Array(parts))
            }
        },
        other => {
            let found = other.unwrap_or_default().into();
            Err(Problem::value(format!("{MESSAGE}.content.parts"), "a list of texts", &found))
        }
    }
}
