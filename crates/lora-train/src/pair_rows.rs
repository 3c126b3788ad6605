//! Reading and tokenizing pairs of answers, in the formats that TRL and mlx-lm-lora read.

use std::path::Path;

use chat_format::jsonl::{self, Reader};
use chat_format::{
    ChatTokenizer, Conversation, Message, Problem, RenderOptions, Role, Supervision,
};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::dataset::Pair;
use crate::rows::Columns;
use crate::{Error, Result};

const CHOSEN: &str = "chosen";
const REJECTED: &str = "rejected";

type Checked<T> = std::result::Result<T, Problem>;

/// Reads a JSONL file of pairs, and renders them with the tokenizer's chat template.
///
/// A row has a `chosen` and a `rejected` answer: each a string, a message, or a list of messages that
/// ends with the answer. What comes before both is in `prompt` (a string, with or without `system`
/// beside it, or messages) or in `messages`, or at the start of both lists. `tools` are rendered too.
///
/// # Errors
/// [`Error::Data`] with the line of a row that has another form, or whose answers, as the template
/// renders them, do not begin with exactly the tokens of the prompt; [`Error::Render`] with the line of a
/// row that the template refuses.
pub fn read_pairs(
    path: impl AsRef<Path>,
    tokenizer: &ChatTokenizer,
    columns: &Columns,
) -> Result<Vec<Pair>> {
    read_each_pair(path, tokenizer, columns)?.into_iter().map(|(_, pair)| pair).collect()
}

/// The same for each line: its number, and the pair or why there is none.
///
/// # Errors
/// [`Error::Data`] if the file cannot be read or a line is not JSON.
pub fn read_each_pair(
    path: impl AsRef<Path>,
    tokenizer: &ChatTokenizer,
    columns: &Columns,
) -> Result<Vec<(u64, Result<Pair>)>> {
    let path = path.as_ref();
    let rows = Reader::open(path)?.collect::<chat_format::Result<Vec<_>>>()?;
    let pair = |jsonl::Row { line, value, .. }| {
        let refused = |problem| -> Error {
            chat_format::Error::Row { path: path.to_owned(), line, problem }.into()
        };
        let failed =
            |source| Error::Render { path: path.to_owned(), line, source: Box::new(source) };
        let PairRow { prompt, chosen, rejected, tools } =
            PairRow::of(&value, columns).map_err(refused)?;
        let render = |field: &str, answer: Value| {
            let messages: Vec<&Value> = prompt.iter().chain([&answer]).collect();
            let row = json!({ "messages": messages, "tools": tools });
            let chat = Conversation::try_from(row).map_err(refused)?;
            let answer = Rendered::of(tokenizer, &chat).map_err(failed)?;
            answer.split(tokenizer, field).map_err(refused)
        };
        let (prompt, chosen) = render(CHOSEN, chosen)?;
        let (_, rejected) = render(REJECTED, rejected)?;
        Ok(Pair { prompt, chosen, rejected })
    };
    Ok(rows.into_par_iter().map(|row| (row.line, pair(row))).collect())
}

/// A row as JSON messages.
struct PairRow {
    prompt: Vec<Value>,
    chosen: Value,
    rejected: Value,
    tools: Value,
}

impl PairRow {
    fn of(row: &Value, columns: &Columns) -> Checked<Self> {
        let [(before_chosen, chosen), (before_rejected, rejected)] =
            [answer(row, CHOSEN)?, answer(row, REJECTED)?];
        if before_chosen != before_rejected {
            let expected = format!("the messages before the answer of `{CHOSEN}`");
            return Err(Problem::new(REJECTED, expected, "others"));
        }
        let named = prompt(row, columns)?;
        let prompt = match (named, before_chosen) {
            (None, before) if before.is_empty() => {
                let expected = format!("`{}` or `{}`", columns.prompt, columns.chat);
                return Err(Problem::new("", expected, "neither"));
            }
            (None, before) => before,
            (Some(prompt), before) if before.is_empty() || before == prompt => prompt,
            // A `system` of its own may be missing in the prompt.
            (Some(prompt), before) if before.ends_with(&prompt) => before,
            (Some(_), _) => {
                let expected = "the prompt's messages before the answer, or the answer alone";
                return Err(Problem::new(CHOSEN, expected, "other messages"));
            }
        };
        let tools = row.get("tools").cloned().unwrap_or_else(|| json!([]));
        Ok(Self { prompt, chosen, rejected, tools })
    }
}

/// The messages before the answers, if the row has them apart from the answers.
fn prompt(row: &Value, columns: &Columns) -> Checked<Option<Vec<Value>>> {
    let (key, value) = match (row.get(&columns.prompt), row.get(&columns.chat)) {
        (Some(_), Some(_)) => {
            let expected = format!("only this or `{}`", columns.chat);
            return Err(Problem::new(&columns.prompt, expected, "both"));
        }
        (Some(value), None) => (&columns.prompt, value),
        (None, Some(value)) => (&columns.chat, value),
        (None, None) => return Ok(None),
    };
    let mut messages = match value {
        Value::String(text) => vec![message("user", text)],
        Value::Array(messages) => messages.clone(),
        _ => return Err(Problem::new(key, "a string or messages", kind(value))),
    };
    match row.get("system") {
        Some(Value::String(text)) => messages.insert(0, message("system", text)),
        None | Some(Value::Null) => {}
        Some(other) => return Err(Problem::new("system", "a string", kind(other))),
    }
    Ok(Some(messages))
}

/// The messages before an answer in its own field, and the answer's message.
fn answer(row: &Value, field: &str) -> Checked<(Vec<Value>, Value)> {
    let expected = "a string, a message or messages";
    let Some(value) = row.get(field) else { return Err(Problem::new(field, expected, "nothing")) };
    let mut messages = match value {
        Value::String(text) => vec![message("assistant", text)],
        Value::Array(messages) => messages.clone(),
        Value::Object(fields) => match fields.get("messages") {
            Some(Value::Array(messages)) => messages.clone(),
            _ => {
                let mut answer = fields.clone();
                answer.entry("role").or_insert_with(|| json!("assistant"));
                vec![Value::Object(answer)]
            }
        },
        _ => return Err(Problem::new(field, expected, kind(value))),
    };
    let last = messages.pop().ok_or_else(|| Problem::new(field, expected, "an empty list"))?;
    Ok((messages, last))
}

fn message(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A prompt and a whole conversation as tokens.
struct Rendered {
    prompt: Vec<u32>,
    whole: Vec<u32>,
    /// Where the answer is in `whole`.
    answer: Vec<std::ops::Range<usize>>,
    role: Option<Role>,
}

impl Rendered {
    fn of(tokenizer: &ChatTokenizer, chat: &Conversation) -> chat_format::Result<Self> {
        let options = RenderOptions::default().tools(chat.tools.clone());
        let (last, before): (Option<&Message>, &[Message]) = match chat.messages.split_last() {
            Some((last, before)) => (Some(last), before),
            None => (None, &[]),
        };
        let row = tokenizer.training_row(chat, &options, Supervision::LastTurn)?;
        Ok(Self {
            prompt: tokenizer.prompt_tokens(before, &options)?,
            whole: row.tokens,
            answer: row.trained,
            role: last.map(|message| message.role),
        })
    }

    /// The tokens of the prompt and of the answer in `field`.
    fn split(self, tokenizer: &ChatTokenizer, field: &str) -> Checked<(Vec<u32>, Vec<u32>)> {
        let Self { prompt, whole, answer, role } = self;
        if role != Some(Role::Assistant) {
            return Err(Problem::new(field, "an assistant's message at the end", "another role's"));
        }
        let differs = prompt.iter().zip(&whole).position(|(a, b)| a != b);
        let problem = |found: String| {
            let expected = format!(
                "a rendering that begins with the {} tokens of the rendered prompt, then the answer",
                prompt.len()
            );
            Err(Problem::new(field, expected, found))
        };
        match (differs, answer.as_slice()) {
            (None, [span]) if span.start == prompt.len() => {
                let answer = whole[span.clone()].to_vec();
                Ok((prompt, answer))
            }
            (Some(at), _) => {
                let [expected, found] = [&prompt, &whole].map(|tokens| tokenizer.token(tokens[at]));
                problem(format!("token {at} to be {found:?} instead of {expected:?}"))
            }
            (None, [span]) => problem(format!("the answer at token {}", span.start)),
            (None, spans) => problem(format!("the answer in {} parts", spans.len())),
        }
    }
}
