//! Reading and tokenizing data files in the formats that mlx-lm reads.

use std::fs;
use std::io;
use std::path::Path;

use chat_format::jsonl::{self, Reader};
use chat_format::{
    ChatTokenizer, Conversation, Message, Problem, RenderOptions, Supervision, TrainingRow,
};
use jiff::civil::Date;
use models::Group;
use rayon::prelude::*;
use serde_json::Value;

use crate::config::TrainConfig;
use crate::dataset::{Example, RowSource};
use crate::{Error, Result, Start};

/// The names of the fields of a row: `prompt` and `completion`, else `messages`, else `text`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Columns {
    /// The user's message.
    pub prompt: String,
    /// The assistant's answer to it.
    pub completion: String,
    /// A list of messages.
    pub chat: String,
    /// Plain text.
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
    /// Which tokens are trained: all, or with `mask_prompt` those of every assistant turn. (mlx-lm
    /// trains only the last turn.)
    pub fn supervision(&self) -> Supervision {
        if self.mask_prompt { Supervision::AssistantTurns } else { Supervision::All }
    }
}

/// The date that chat templates print in the rows of a run: `nightshift.date`, or else that of the
/// run's first start, which is kept in the file `date` of `adapter_path`. So a run that is resumed on
/// another day trains the same tokens.
///
/// # Errors
/// [`Error::Read`] if the file holds no date; [`Error::Folder`] or [`Error::Write`] if it cannot be
/// written.
pub fn template_date(config: &TrainConfig, start: Start) -> Result<Date> {
    if let Some(date) = config.nightshift.date {
        return Ok(date);
    }
    let path = config.adapter_path.join("date");
    if start == Start::Resume && path.exists() {
        let text = fs::read_to_string(&path);
        let date = text.and_then(|text| text.trim().parse().map_err(io::Error::other));
        return date.map_err(|source| Error::Read { path, source });
    }
    fs::create_dir_all(&config.adapter_path)
        .map_err(|source| Error::Folder { path: config.adapter_path.clone(), source })?;
    let today = jiff::Zoned::now().date();
    durable::write(&path, format!("{today}\n"))?;
    Ok(today)
}

/// The [`template_date`] of rank 0, on every rank: with another one the same file would be other rows.
///
/// # Errors
/// As [`template_date`] on rank 0; elsewhere if it is lost.
pub fn common_template_date(group: &Group, config: &TrainConfig, start: Start) -> Result<Date> {
    let own = match group.is_first() {
        true => template_date(config, start)?.to_string(),
        false => String::new(),
    };
    let date = String::from_utf8_lossy(&group.broadcast(own.into_bytes())?).parse();
    date.map_err(|error| {
        let reason = format!("rank 0's date: {error}");
        models::Error::from(models::RankError::Exchange { reason }).into()
    })
}

/// Reads a JSONL file, and renders every row with the tokenizer's chat template. A conversation whose
/// turns are served in other contexts than the whole of it renders becomes several rows (see
/// [`ChatTokenizer::training_rows`]).
///
/// # Errors
/// [`Error::NoRows`] for a file without rows; [`Error::Data`] with the line of a row that has none of the `columns`, or values of another type;
/// [`Error::Render`] with the line of a row that the template refuses.
pub fn read_rows(
    path: impl AsRef<Path>,
    tokenizer: &ChatTokenizer,
    columns: &Columns,
    supervision: Supervision,
) -> Result<Vec<TrainingRow>> {
    let rows = read_all(path.as_ref(), tokenizer, columns, supervision)?;
    Ok(rows.into_iter().map(|(row, _)| row).collect())
}

/// The same as examples, which know which of them are replay: rows with `"kind": "replay"`.
///
/// # Errors
/// As for [`read_rows`].
pub fn read_examples(
    path: impl AsRef<Path>,
    tokenizer: &ChatTokenizer,
    columns: &Columns,
    supervision: Supervision,
) -> Result<Vec<Example>> {
    let rows = read_all(path.as_ref(), tokenizer, columns, supervision)?;
    Ok(rows.into_iter().map(|(row, source)| Example::from(row).from_source(source)).collect())
}

fn read_all(
    path: &Path,
    tokenizer: &ChatTokenizer,
    columns: &Columns,
    supervision: Supervision,
) -> Result<Vec<(TrainingRow, RowSource)>> {
    let rows = Reader::open(path)?.collect::<chat_format::Result<Vec<_>>>()?;
    if rows.is_empty() {
        return Err(Error::NoRows { data: path.display().to_string() });
    }
    let rows = rows
        .into_par_iter()
        .map(|jsonl::Row { line, value, .. }| {
            let source = RowSource::of_kind(value.get("kind"));
            let content = Content::of(value, columns, supervision).map_err(|problem| {
                chat_format::Error::Row { path: path.to_owned(), line, problem }
            })?;
            let rows = match &content {
                Content::Chat(chat) => {
                    tokenizer.training_rows(chat, &RenderOptions::default(), supervision)
                }
                Content::Text(text) => tokenizer.text_row(text).map(|row| vec![row]),
            };
            let rows = rows.map_err(|source| Error::Render {
                path: path.to_owned(),
                line,
                source: Box::new(source),
            })?;
            Ok(rows.into_iter().map(|row| (row, source)).collect::<Vec<_>>())
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(rows.into_iter().flatten().collect())
}

enum Content {
    Chat(Conversation),
    Text(String),
}

impl Content {
    fn of(
        mut row: Value,
        Columns { prompt, completion, chat, text }: &Columns,
        supervision: Supervision,
    ) -> std::result::Result<Self, Problem> {
        if let (Some(question), Some(answer)) = (row.get(prompt), row.get(completion)) {
            let question = Message::user(string(prompt, question)?);
            let answer = Message::assistant(string(completion, answer)?);
            return Ok(Self::Chat(Conversation::new(vec![question, answer])));
        }
        if let Some(messages) = row.as_object_mut().and_then(|fields| fields.remove(chat)) {
            row["messages"] = messages;
            return Conversation::try_from(row).map(Self::Chat);
        }
        match row.get(text) {
            Some(value) if supervision == Supervision::All => {
                Ok(Self::Text(string(text, value)?.to_owned()))
            }
            Some(_) => {
                Err(Problem::new(text, "a row with a prompt, for `mask_prompt`", "plain text"))
            }
            None => {
                let expected = format!("`{chat}`, `{prompt}` and `{completion}`, or `{text}`");
                Err(Problem::new("", expected, "none of them"))
            }
        }
    }
}

fn string<'v>(key: &str, value: &'v Value) -> std::result::Result<&'v str, Problem> {
    value.as_str().ok_or_else(|| Problem::new(key, "a string", value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_run_keeps_the_date_of_its_first_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let mut config = TrainConfig { adapter_path: path, ..TrainConfig::default() };
        let today = template_date(&config, Start::Resume).unwrap();
        fs::write(config.adapter_path.join("date"), "2026-04-08\n").unwrap();
        let first = jiff::civil::date(2026, 4, 8);
        assert_eq!(template_date(&config, Start::Resume).unwrap(), first);
        assert!(template_date(&config, Start::Fresh).unwrap() >= today);
        fs::write(config.adapter_path.join("date"), "yesterday").unwrap();
        let error = template_date(&config, Start::Resume).unwrap_err().to_string();
        assert!(error.contains("date"), "{error}");
        config.nightshift.date = Some(first);
        assert_eq!(template_date(&config, Start::Fresh).unwrap(), first);
    }
}
