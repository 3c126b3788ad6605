//! Rows of a data file, in any of the shapes mlx-lm reads, as tokens.

use std::path::Path;

use chat_format::jsonl::{self, Reader};
use chat_format::{
    ChatTokenizer, Conversation, Message, Problem, RenderOptions, Supervision, TrainingRow,
};
use rayon::prelude::*;
use serde_json::Value;

use crate::config::TrainConfig;
use crate::{Data, Dataset, Error, Result};

/// The names of a row's fields.
///
/// A row with `prompt` and `completion` is a question and its answer, else one with `messages` a
/// conversation, else one with `text` a plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// A question.
    pub prompt: String,
    /// Its answer.
    pub completion: String,
    /// A conversation.
    pub chat: String,
    /// A plain text.
    pub text: String,
}

impl Default for Columns {
    fn default() -> Self {
        let [prompt, completion, chat, text] =
            ["prompt", "completion", "messages", "text"].map(str::to_owned);
        Self { prompt, completion, chat, text }
    }
}

impl From<&TrainConfig> for Columns {
    fn from(config: &TrainConfig) -> Self {
        let names = Self::default();
        Self {
            prompt: config.prompt_feature.clone().unwrap_or(names.prompt),
            completion: config.completion_feature.clone().unwrap_or(names.completion),
            chat: config.chat_feature.clone().unwrap_or(names.chat),
            text: config.text_feature.clone().unwrap_or(names.text),
        }
    }
}

impl TrainConfig {
    /// Which tokens are trained: all, or with `mask_prompt` every answer (not the last alone, as in
    /// mlx-lm; for rows of one answer that is the same).
    pub fn supervision(&self) -> Supervision {
        if self.mask_prompt { Supervision::AssistantTurns } else { Supervision::All }
    }
}

impl Data {
    /// Reads `train.jsonl` and, where there is one, `valid.jsonl` from the folder of `config.data`.
    pub fn open(config: &TrainConfig, tokenizer: &ChatTokenizer) -> Result<Self> {
        let folder = config.data_folder()?;
        let split = |name: &str| {
            let path = folder.join(format!("{name}.jsonl"));
            let rows = read_rows(&path, tokenizer, &Columns::from(config), config.supervision())?;
            Dataset::new(name, rows, config.max_seq_length)
        };
        let has_valid = folder.join("valid.jsonl").exists();
        Ok(Self {
            train: split("train")?,
            valid: if has_valid { Some(split("valid")?) } else { None },
        })
    }
}

/// Reads a JSONL file and renders every row with the model's own template.
pub fn read_rows(
    path: impl AsRef<Path>,
    tokenizer: &ChatTokenizer,
    columns: &Columns,
    supervision: Supervision,
) -> Result<Vec<TrainingRow>> {
    let path = path.as_ref();
    let rows = Reader::open(path)?.collect::<chat_format::Result<Vec<_>>>()?;
    rows.into_par_iter()
        .map(|jsonl::Row { line, value, .. }| {
            let shape = Shape::of(value, columns, supervision).map_err(|problem| {
                chat_format::Error::Row { path: path.to_owned(), line, problem }
            })?;
            let row = match &shape {
                Shape::Chat(chat) => {
                    tokenizer.training_row(chat, &RenderOptions::default(), supervision)
                }
                Shape::Text(text) => tokenizer.text_row(text),
            };
            row.map_err(|source| Error::Render {
                path: path.to_owned(),
                line,
                source: Box::new(source),
            })
        })
        .collect()
}

enum Shape {
    Chat(Conversation),
    Text(String),
}

impl Shape {
    fn of(
        mut row: Value,
        Columns { prompt, completion, chat, text }: &Columns,
        supervision: Supervision,
    ) -> std::result::Result<Self, Problem> {
        if let (Some(question), Some(answer)) = (row.get(prompt), row.get(completion)) {
            let question = Message::user(words(prompt, question)?);
            let answer = Message::assistant(words(completion, answer)?);
            return Ok(Self::Chat(Conversation::new(vec![question, answer])));
        }
        if let Some(messages) = row.as_object_mut().and_then(|fields| fields.remove(chat)) {
            row["messages"] = messages;
            return Conversation::try_from(row).map(Self::Chat);
        }
        match row.get(text) {
            Some(value) if supervision == Supervision::All => {
                Ok(Self::Text(words(text, value)?.to_owned()))
            }
            Some(_) => Err(Problem::new(text, "a row with a prompt to mask", "a plain text")),
            None => {
                let shapes = format!("`{chat}`, `{prompt}` and `{completion}`, or `{text}`");
                Err(Problem::new("", shapes, "none of them"))
            }
        }
    }
}

fn words<'v>(key: &str, value: &'v Value) -> std::result::Result<&'v str, Problem> {
    value.as_str().ok_or_else(|| Problem::new(key, "a text", value.to_string()))
}
