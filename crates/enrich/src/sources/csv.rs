//! Benchmarks published as CSV.

use std::path::Path;

use csv::{ErrorKind, ReaderBuilder, StringRecord};

use super::{Label, Prompt, text};
use crate::{Error, Result};

/// The columns of a benchmark that are read.
pub(super) struct Columns {
    prompt: &'static str,
    category: Option<&'static str>,
    /// The column that says `safe` or `unsafe`, if the file has both.
    label: Option<&'static str>,
}

pub(super) const JAILBREAK_BENCH: Columns =
    Columns { prompt: "Goal", category: Some("Category"), label: None };
pub(super) const HARM_BENCH: Columns =
    Columns { prompt: "Behavior", category: Some("SemanticCategory"), label: None };
pub(super) const STRONG_REJECT: Columns =
    Columns { prompt: "forbidden_prompt", category: Some("category"), label: None };
pub(super) const ADV_BENCH: Columns = Columns { prompt: "goal", category: None, label: None };
pub(super) const XS_TEST: Columns =
    Columns { prompt: "prompt", category: Some("type"), label: Some("label") };

/// Reads a benchmark; `label` is that of every row if there is no label column.
pub(super) fn read(path: &Path, columns: &Columns, label: Label) -> Result<Vec<Prompt>> {
    let text = text(path)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut reader = ReaderBuilder::new().from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|error| broken(path, error))?.clone();
    let column = |name: &str| {
        headers.iter().position(|header| header.trim() == name).ok_or_else(|| {
            let found = headers.iter().collect::<Vec<_>>().join(",");
            damaged(path, 1, 1, format!("a column `{name}`"), format!("{found:?}"))
        })
    };
    let prompt = column(columns.prompt)?;
    let category = columns.category.map(column).transpose()?;
    let says = columns.label.map(column).transpose()?;
    let mut prompts = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| broken(path, error))?;
        let line = record.position().map_or(0, |position| position.line());
        let field = |column: usize| record.get(column).unwrap_or_default().trim();
        if field(prompt).is_empty() {
            return Err(damaged(
                path,
                line,
                start_of(&record, prompt),
                "a prompt".into(),
                "none".into(),
            ));
        }
        prompts.push(Prompt {
            text: field(prompt).to_owned(),
            label: match says.map(field) {
                None => label,
                Some("safe") => Label::Benign,
                Some("unsafe") => Label::Harmful,
                Some(other) => {
                    let column = says.map_or(1, |column| start_of(&record, column));
                    let expected = "`safe` or `unsafe`".into();
                    return Err(damaged(path, line, column, expected, format!("{other:?}")));
                }
            },
            category: category.map(field).filter(|name| !name.is_empty()).map(str::to_owned),
            tier: None,
            line,
        });
    }
    Ok(prompts)
}

/// The column at which a field starts; approximate in records with quotes or line breaks.
fn start_of(record: &StringRecord, column: usize) -> u64 {
    record.iter().take(column).map(|field| field.chars().count() as u64 + 1).sum::<u64>() + 1
}

fn broken(path: &Path, error: csv::Error) -> Error {
    let line = error.position().map_or(1, |position| position.line());
    match error.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            damaged(path, line, 1, format!("{expected_len} fields"), len.to_string())
        }
        _ => damaged(path, line, 1, "a CSV record".into(), error.to_string()),
    }
}

fn damaged(path: &Path, line: u64, column: u64, expected: String, found: String) -> Error {
    Error::Source { path: path.to_path_buf(), line, column, expected, found }
}
