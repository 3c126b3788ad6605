//! Preference pairs: a right and a wrong answer to one prompt.

use std::path::Path;

use chat_format::Message;
use eval::AgentId;
use serde::Serialize;

use crate::row::{Kind, Row};
use crate::{Error, Result};

/// A prompt with a right and a wrong answer: one line of `pairs.jsonl`.
///
/// The wrong answer to a harmful request complies in its first words and has no content; to a harmless one it refuses; to a
/// question about identity it is a false identity; to a request for another agent it names a wrong one or keeps the request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Pair {
    /// The prompt: the system prompt and the user's turn.
    pub messages: Vec<Message>,
    /// The right answer.
    pub chosen: String,
    /// The wrong answer.
    pub rejected: String,
    /// What the pair teaches.
    pub kind: Kind,
    /// The agent that answers.
    pub agent: AgentId,
}

impl Pair {
    /// The pair of a row with a wrong answer; none for other rows and for rows of several exchanges.
    pub(crate) fn of(row: &Row) -> Option<Pair> {
        let [exchange] = row.exchanges.as_slice() else { return None };
        Some(Pair {
            messages: vec![Message::system(&row.system), Message::user(&exchange.user)],
            chosen: exchange.assistant.clone(),
            rejected: row.rejected.clone()?,
            kind: row.meta.kind,
            agent: row.meta.agent.clone(),
        })
    }
}

/// Writes pairs as JSON Lines. The file is complete or absent.
pub(crate) fn write(path: &Path, pairs: &[Pair]) -> Result<()> {
    let mut lines = String::new();
    for pair in pairs {
        let line = serde_json::to_string(pair)
            .map_err(|source| Error::Pair { path: path.to_path_buf(), source })?;
        lines.push_str(&line);
        lines.push('\n');
    }
    Ok(durable::write(path, lines.as_bytes())?)
}
