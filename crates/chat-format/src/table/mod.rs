//! Reads the rows of tables as JSON objects: a field a column.

mod csv;
#[cfg(feature = "parquet")]
mod parquet;

pub(crate) use self::csv::CsvRows;
#[cfg(feature = "parquet")]
pub(crate) use self::parquet::ParquetRows;

use std::path::Path;

use crate::jsonl::{Block, BlockRow, Place};
use crate::raw::Fields;
use crate::{Error, Problem, json};

/// Appends a row to a block.
fn push(block: &mut Block, line: u64, fields: &Fields<'_>) -> Result<(), serde_json::Error> {
    let start = block.bytes.len();
    json::write(&mut block.bytes, fields)?;
    let (place, range) = (Place::on_line(line), start..block.bytes.len());
    block.rows.push(BlockRow { place, range, problem: None });
    Ok(())
}

/// Appends a row that cannot be read, as the bytes that it has in the file.
fn push_odd(block: &mut Block, line: u64, bytes: &[u8], problem: Problem) {
    let start = block.bytes.len();
    block.bytes.extend_from_slice(bytes);
    let (range, problem) = (start..block.bytes.len(), Some(Box::new(problem)));
    block.rows.push(BlockRow { place: Place::on_line(line), range, problem });
}

/// The error of a table that cannot be read on. `line` is the line, or the row where a format has no lines, from 1.
fn broken(path: &Path, line: u64, reason: impl ToString) -> Error {
    Error::Table { path: path.to_owned(), line, reason: reason.to_string() }
}
