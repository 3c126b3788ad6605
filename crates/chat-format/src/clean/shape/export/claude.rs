//! Claude: `chat_messages`, each with a `sender`, content blocks, and the text of files that were attached.

use super::Reader;
use crate::Problem;
use crate::clean::shape::turns::{Turns, turn};
use crate::draft::Draft;
use crate::raw::{Fields, Raw};

const MESSAGES: &str = "chat_messages";

impl<'a> Reader<'a> {
    pub(super) fn claude(&mut self) -> Result<Vec<Draft<'a>>, Problem> {
        let Some(Raw::Array(messages)) = self.fields.take(MESSAGES) else { return Ok(Vec::new()) };
        let mut turns = Turns::default();
        for (index, message) in messages.into_iter().enumerate() {
            let at = format!("{MESSAGES}[{index}]");
            let Raw::Object(mut message) = message else {
                return Err(Problem::value(at, "a message", &message.into()));
            };
            let whole = message.take_text("text");
            let mut parts = match message.take("content") {
                Some(Raw::Array(parts)) => parts,
                Some(text @ Raw::Text(_)) => vec![text],
                None | Some(Raw::Null) => Vec::new(),
                Some(other) => {
                    return Err(Problem::value(format!("{at}.content"), "a list", &other.into()));
                }
            };
            match whole {
                Some(whole) if parts.is_empty() => parts.push(Raw::Text(whole)),
                Some(whole) if !is_all(&whole, &parts) => {
                    self.ignored.push(format!("{MESSAGES}[].text"));
                }
                _ => {}
            }
            let sender = message.take("sender").unwrap_or_default();
            if let Some(files) = attached(&mut message) {
                parts.splice(0..0, files);
            }
            parts.retain(|part| {
                let budget = kind(part) == Some("token_budget");
                self.ignored.extend(budget.then(|| format!("{MESSAGES}[].content[] token_budget")));
                !budget
            });
            add(sender, parts, &mut turns);
            message.take("uuid");
            self.note_rest(&message, &format!("{MESSAGES}[]"));
        }
        self.turns(MESSAGES, turns.finish())
    }
}

/// Whether a text is that of the parts once more.
fn is_all(whole: &str, parts: &[Raw<'_>]) -> bool {
    fn text<'p>(part: &'p Raw<'_>) -> Option<&'p str> {
        part.as_text().or_else(|| part.get("text")?.as_text()).map(str::trim)
    }
    let texts: Vec<&str> = parts.iter().filter_map(text).collect();
    whole.trim().is_empty()
        || ["", " ", "\n", "\n\n"].iter().any(|space| texts.join(space) == whole.trim())
}

/// The type of a part.
fn kind<'p>(part: &'p Raw<'_>) -> Option<&'p str> {
    part.get("type")?.as_text()
}

/// Adds the turns of a message. The results of tools, which stand among the blocks of the answer, are turns of their own.
fn add<'a>(sender: Raw<'a>, parts: Vec<Raw<'a>>, turns: &mut Turns<'a>) {
    let mut pending = Vec::new();
    for part in parts {
        if kind(&part) == Some("tool_result") {
            if !pending.is_empty() {
                let parts = Raw::Array(std::mem::take(&mut pending));
                turns.message(turn(sender.clone(), parts));
            }
            turns.message(turn(Raw::Text("tool".into()), Raw::Array(vec![part])));
        } else {
            pending.push(part);
        }
    }
    if !pending.is_empty() {
        turns.message(turn(sender, Raw::Array(pending)));
    }
}

/// The texts of attached files, which the model read before the message.
fn attached<'a>(message: &mut Fields<'a>) -> Option<Vec<Raw<'a>>> {
    let Some(Raw::Array(files)) = message.get_mut("attachments") else { return None };
    let read = |file: &mut Raw<'a>| match file {
        Raw::Object(file) => file.take_text("extracted_content").filter(|text| !text.is_empty()),
        _ => None,
    };
    Some(files.iter_mut().filter_map(read).map(Raw::Text).collect())
}
