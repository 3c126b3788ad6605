//! LM Studio: `messages[].versions[currentlySelected]`, of one step (the user's) or of several (the assistant's).

use std::borrow::Cow;

use super::Reader;
use crate::Problem;
use crate::clean::shape::turns::{Turns, turn};
use crate::draft::Draft;
use crate::raw::{Fields, Raw};

impl<'a> Reader<'a> {
    pub(super) fn lm_studio(&mut self) -> Result<Vec<Draft<'a>>, Problem> {
        let Some(Raw::Array(messages)) = self.fields.take("messages") else {
            return Ok(Vec::new());
        };
        let mut turns = Turns::default();
        for (index, message) in messages.into_iter().enumerate() {
            let at = format!("messages[{index}]");
            let mut version = self.selected(message, &at)?;
            version.take("type");
            match version.take("steps") {
                Some(Raw::Array(steps)) => {
                    version.take("role");
                    for step in steps {
                        self.step(step, &at, &mut turns)?;
                    }
                }
                steps => {
                    if let Some(steps) = steps {
                        version.insert("steps", steps);
                    }
                    let role = version.take("role").unwrap_or_default();
                    turns.message(turn(role, version.take("content").unwrap_or_default()));
                }
            }
            self.note_rest(&version, "messages[].versions[]");
        }
        self.lm_studio_system();
        self.turns("messages", turns.finish())
    }

    /// The selected version of a message. The others are named.
    fn selected(&mut self, message: Raw<'a>, at: &str) -> Result<Fields<'a>, Problem> {
        let Raw::Object(mut message) = message else {
            return Err(Problem::value(at, "a message with `versions`", &message.into()));
        };
        let index = match message.take("currentlySelected") {
            Some(Raw::Number(index)) => index.as_u64().unwrap_or(u64::MAX) as usize,
            _ => 0,
        };
        let mut versions = match message.take("versions") {
            Some(Raw::Array(versions)) => versions,
            other => {
                let found = other.unwrap_or_default().into();
                return Err(Problem::value(format!("{at}.versions"), "a list of versions", &found));
            }
        };
        self.note_rest(&message, "messages[]");
        if index >= versions.len() {
            let (field, found) = (format!("{at}.currentlySelected"), index.to_string());
            return Err(Problem::new(field, format!("less than {}", versions.len()), found));
        }
        let selected = versions.swap_remove(index);
        self.ignored.extend(versions.iter().map(|_| "messages[].versions not selected".to_owned()));
        match selected {
            Raw::Object(version) => Ok(version),
            other => {
                Err(Problem::value(format!("{at}.versions[{index}]"), "an object", &other.into()))
            }
        }
    }

    fn step(&mut self, step: Raw<'a>, at: &str, turns: &mut Turns<'a>) -> Result<(), Problem> {
        const STEP: &str = "messages[].versions[].steps[]";
        let Raw::Object(mut step) = step else {
            return Err(Problem::value(format!("{at}.steps"), "an object", &step.into()));
        };
        let kind = step.take_text("type").unwrap_or_default();
        if kind != "contentBlock" {
            self.ignored.push(format!("{STEP} of type {kind:?}"));
            return Ok(());
        }
        // The tags of reasoning, and which block this is.
        for structure in ["prefix", "suffix", "stepIdentifier"] {
            step.take(structure);
        }
        let thinks = match step.take("style") {
            Some(Raw::Object(mut style)) => {
                let kind = style.take_text("type");
                self.note_rest(&style, &format!("{STEP}.style"));
                kind.is_some_and(|kind| kind == "thinking")
            }
            _ => false,
        };
        let parts = match step.take("content") {
            Some(Raw::Array(parts)) => parts,
            other => {
                let found = other.unwrap_or_default().into();
                return Err(Problem::value(
                    format!("{at}.steps.content"),
                    "a list of parts",
                    &found,
                ));
            }
        };
        for part in parts {
            let Raw::Object(mut part) = part else {
                return Err(Problem::value(format!("{at}.steps.content"), "a part", &part.into()));
            };
            self.part(&mut part, thinks, at, turns)?;
            self.note_rest(&part, &format!("{STEP}.content[]"));
        }
        self.note_rest(&step, STEP);
        Ok(())
    }

    fn part(
        &mut self,
        part: &mut Fields<'a>,
        thinks: bool,
        at: &str,
        turns: &mut Turns<'a>,
    ) -> Result<(), Problem> {
        let kind = part.take_text("type").unwrap_or_default();
        let mut id = || {
            let mut keys = ["toolCallRequestId", "toolCallId", "callId"].into_iter();
            keys.find_map(|key| match part.take(key)? {
                Raw::Number(id) => Some(Raw::Text(id.to_string().into())),
                id => Some(id),
            })
        };
        match &*kind {
            "text" => {
                let words = part.take_text("text").unwrap_or_default();
                match (words.trim().is_empty(), thinks) {
                    (true, _) => {}
                    (false, true) => turns.reasoning(words),
                    (false, false) => turns.words(words),
                }
            }
            "toolCallRequest" => {
                let id = id();
                let name = part.take("name").unwrap_or_default();
                let arguments = part.take("parameters").or_else(|| part.take("arguments"));
                turns.call(id, name, arguments.unwrap_or(Raw::Object(Fields::default())));
            }
            "toolCallResult" => {
                let id = id();
                let content: Cow<'a, str> = match part.take("content") {
                    Some(Raw::Text(text)) => text,
                    other => serde_json::Value::from(other.unwrap_or_default()).to_string().into(),
                };
                turns.result(id, content);
            }
            _ => {
                let found = format!("a part of type {kind:?}");
                return Err(Problem::new(format!("{at}.steps.content"), "a text part", found));
            }
        }
        Ok(())
    }

    /// The system prompt is beside the messages, or among the settings of the chat.
    fn lm_studio_system(&mut self) {
        let beside = self.fields.take_text("systemPrompt").filter(|text| !text.is_empty());
        let setting = |setting: &Raw<'a>| match (setting.get("key")?, setting.get("value")?) {
            (Raw::Text(key), Raw::Text(value))
                if key == "llm.prediction.systemPrompt" && !value.is_empty() =>
            {
                Some(value.clone())
            }
            _ => None,
        };
        let config = self.fields.get("perChatPredictionConfig");
        let set = match config.and_then(|config| config.get("fields")) {
            Some(Raw::Array(settings)) => settings.iter().find_map(setting),
            _ => None,
        };
        if let Some(system) = set.or(beside).filter(|_| !self.fields.has("system")) {
            self.fields.insert("system", Raw::Text(system));
        }
    }
}
