use std::path::Path;

use rayon::prelude::*;
use serde_json::Value;

use super::{Notes, Options, Report, row};
use crate::jsonl::{Reader, Writer};
use crate::{Error, Problem, Result, json};

/// What a row that cannot be cleaned does to its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Strictness {
    /// The row is left out and reported.
    #[default]
    LeaveOut,
    /// The whole file is refused, and nothing is written.
    Refuse,
}

/// Enough rows to keep the cores busy, few enough to hold in memory.
const CHUNK_BYTES: usize = 8 << 20;

/// Cleans a JSON Lines file of raw rows. Rows keep their order; memory does not grow with the file. A line that is not JSON
/// refuses the file in any case: a damaged file should be looked at.
pub fn convert(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    options: Options,
    strictness: Strictness,
) -> Result<Report> {
    let mut reader = Reader::open(&input)?;
    let mut writer = Writer::create(&output)?;
    let mut report = Report::default();
    loop {
        let lines = read_chunk(&mut reader)?;
        if lines.is_empty() {
            break;
        }
        let cleaned: Vec<_> =
            lines.par_iter().map(|(line, bytes)| (*line, clean(bytes, options))).collect();
        for (line, outcome) in cleaned {
            report.rows += 1;
            match outcome.map_err(|error| reader.not_json(line, &error))? {
                Ok((bytes, notes)) => {
                    writer.write_line(&bytes)?;
                    report.written += 1;
                    report.notes.add(notes);
                }
                Err(problem) if strictness == Strictness::Refuse => {
                    return Err(Error::Row { path: input.as_ref().to_owned(), line, problem });
                }
                Err(problem) => report.refuse(line, &problem),
            }
        }
    }
    writer.commit()?;
    Ok(report)
}

fn read_chunk(reader: &mut Reader) -> Result<Vec<(u64, Vec<u8>)>> {
    let mut lines = Vec::new();
    let mut bytes = 0;
    while bytes < CHUNK_BYTES {
        let Some((line, text)) = reader.next_bytes()? else { break };
        bytes += text.len();
        lines.push((line, text.to_vec()));
    }
    Ok(lines)
}

type Cleaned = Result<(Vec<u8>, Notes), Problem>;

fn clean(line: &[u8], options: Options) -> Result<Cleaned, serde_json::Error> {
    let raw: Value = serde_json::from_slice(line)?;
    let (chat, notes) = match row(raw, options) {
        Ok(cleaned) => cleaned,
        Err(problem) => return Ok(Err(problem)),
    };
    let mut bytes = Vec::with_capacity(line.len());
    json::write(&mut bytes, &chat)?;
    Ok(Ok((bytes, notes)))
}
