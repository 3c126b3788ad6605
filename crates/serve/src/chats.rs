//! The log of chats: what was asked and answered, and what people thought of it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use chat_format::clean::{self, Reasoning, Scrub};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::options::ChatLog;

/// How many recorded ids are kept in memory; older ones are looked for in the files.
const RECENT: usize = 4_096;

/// Appends to `FOLDER/DATE.jsonl`, one object a line, readable by the owner only.
#[derive(Debug)]
pub(crate) struct Chats {
    log: ChatLog,
    recent: Mutex<VecDeque<String>>,
}

/// A chat to record.
#[derive(Debug)]
pub(crate) struct Chat {
    pub id: String,
    /// The request's messages and the answer.
    pub messages: Vec<Value>,
    pub tools: Vec<Value>,
    /// Who was asked, if the request says so.
    pub agent: Option<String>,
    pub model: String,
    pub generation: u64,
    pub fingerprint: String,
    pub finish: &'static str,
}

/// What somebody thinks of a recorded answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Feedback {
    pub id: String,
    /// Thumbs up or down.
    pub good: Option<bool>,
    /// What the answer should have been.
    pub correction: Option<String>,
}

/// Why something is not recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRecorded {
    #[error(transparent)]
    File(#[from] durable::Error),
    #[error(transparent)]
    Problem(#[from] chat_format::Problem),
}

impl Chats {
    /// Creates the folder, readable by the owner only.
    pub fn open(log: ChatLog) -> durable::Result<Self> {
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(&log.folder).map_err(|source| durable::Error::Io {
            path: log.folder.clone(),
            action: "create",
            source,
        })?;
        Ok(Self { log, recent: Mutex::default() })
    }

    /// Whether the chats of this agent are recorded.
    pub fn wants(&self, agent: Option<&str>) -> bool {
        match &self.log.agents {
            None => true,
            Some(agents) => agent.is_some_and(|agent| agents.iter().any(|one| one == agent)),
        }
    }

    /// Records a chat, with personal data replaced by placeholders.
    pub fn record(&self, chat: Chat) -> Result<(), NotRecorded> {
        let id = chat.id.clone();
        let row = json!({
            "id": chat.id, "at": Timestamp::now(), "agent": chat.agent, "model": chat.model,
            "generation": chat.generation, "system_fingerprint": chat.fingerprint,
            "finish_reason": chat.finish, "messages": chat.messages, "tools": chat.tools,
        });
        self.append(&scrubbed(row)?)?;
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= RECENT {
            recent.pop_front();
        }
        recent.push_back(id);
        Ok(())
    }

    /// Records feedback. Returns whether there is such a chat.
    pub fn judge(&self, feedback: &Feedback) -> Result<bool, NotRecorded> {
        if !self.has(&feedback.id) {
            return Ok(false);
        }
        let mut line = Map::new();
        line.insert("feedback".into(), json!(feedback.id));
        line.insert("at".into(), json!(Timestamp::now()));
        if let Some(good) = feedback.good {
            line.insert("good".into(), json!(good));
        }
        if let Some(correction) = &feedback.correction {
            // A row needs a question too.
            let row = json!({ "messages": [
                { "role": "user", "content": "?" }, { "role": "assistant", "content": correction },
            ] });
            let row = scrubbed(row)?;
            line.insert("correction".into(), row["messages"][1]["content"].clone());
        }
        self.append(&Value::Object(line))?;
        Ok(true)
    }

    fn append(&self, line: &Value) -> Result<(), durable::Error> {
        let name = format!("{}.jsonl", jiff::Zoned::now().date());
        durable::append_line(self.log.folder.join(name), &line.to_string())
    }

    fn has(&self, id: &str) -> bool {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().any(|one| one == id) || {
            drop(recent);
            files(&self.log.folder).iter().rev().any(|file| mentions(file, id))
        }
    }
}

/// The files of the log, oldest first.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(items) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = items.filter_map(|item| Some(item.ok()?.path()));
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "jsonl")).collect();
    files.sort();
    files
}

/// Whether a file has the chat with this id.
fn mentions(file: &Path, id: &str) -> bool {
    use std::io::BufRead;
    let begins = format!("{{\"id\":{},", Value::from(id));
    let lines = std::fs::File::open(file).map(|file| std::io::BufReader::new(file).lines());
    lines.is_ok_and(|lines| lines.map_while(Result::ok).any(|line| line.starts_with(&begins)))
}

/// A row without personal data, by the rules that clean training data.
fn scrubbed(row: Value) -> Result<Value, chat_format::Problem> {
    let order: Vec<String> = row.as_object().into_iter().flat_map(Map::keys).cloned().collect();
    let options = clean::Options::default().scrub(Scrub::all()).reasoning(Reasoning::Keep);
    let (row, _) = clean::row(row, options)?;
    // What the log is read by comes first.
    let mut row = serde_json::to_value(row).unwrap_or_default();
    let mut sorted = Map::new();
    for key in order {
        if let Some(value) = row.as_object_mut().and_then(|row| row.remove(&key)) {
            sorted.insert(key, value);
        }
    }
    Ok(Value::Object(sorted))
}
