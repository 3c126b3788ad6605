//! JSON Lines: read one row at a time, written whole or not at all.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::{Conversation, Error, Result, json};

/// A line longer than this is not a chat, and would have to be held in memory whole.
const MAX_LINE: u64 = 64 << 20;

/// One row as it stands in the file.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its line, from 1.
    pub line: u64,
    /// Its JSON.
    pub value: Value,
}

/// Reads rows one by one in constant memory. A byte order mark, CRLF line ends and blank lines are fine.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    input: BufReader<File>,
    line: u64,
    bytes: Vec<u8>,
}

impl Reader {
    /// Opens a file of one JSON value a line.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        match File::open(&path) {
            Ok(file) => {
                let input = BufReader::with_capacity(1 << 18, file);
                Ok(Reader { path, input, line: 0, bytes: Vec::new() })
            }
            Err(source) => Err(Error::Io { path, source }),
        }
    }

    /// The rows as clean conversations, as [`Writer`] writes them. (For raw rows see [`clean`](crate::clean).)
    pub fn conversations(self) -> impl Iterator<Item = Result<Conversation>> {
        let path = self.path.clone();
        self.map(move |row| {
            let Row { line, value } = row?;
            Conversation::try_from(value).map_err(|problem| Error::Row {
                path: path.clone(),
                line,
                problem,
            })
        })
    }

    /// The next line that is not blank, without its line end.
    pub(crate) fn next_line(&mut self) -> Result<Option<(u64, &[u8])>> {
        loop {
            self.bytes.clear();
            let mut limited = self.input.by_ref().take(MAX_LINE + 1);
            let read = limited
                .read_until(b'\n', &mut self.bytes)
                .map_err(|source| Error::Io { path: self.path.clone(), source })?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            if read as u64 > MAX_LINE {
                return Err(self.not_json(1, format!("the line is longer than {MAX_LINE} bytes")));
            }
            if self.line == 1 && self.bytes.starts_with(b"\xef\xbb\xbf") {
                self.bytes.drain(..3);
            }
            if !self.bytes.trim_ascii().is_empty() {
                return Ok(Some((self.line, self.bytes.trim_ascii_end())));
            }
        }
    }

    fn not_json(&self, column: u64, reason: String) -> Error {
        Error::Json { path: self.path.clone(), line: self.line, column, reason }
    }
}

impl Iterator for Reader {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        let parsed = match self.next_line() {
            Ok(None) => return None,
            Err(error) => return Some(Err(error)),
            Ok(Some((line, bytes))) => {
                serde_json::from_slice(bytes).map(|value| Row { line, value })
            }
        };
        Some(parsed.map_err(|error| {
            // The parser counts its lines from the start of ours.
            let reason = error.to_string();
            let reason = reason.split(" at line ").next().unwrap_or(&reason).to_owned();
            self.not_json(error.column() as u64, reason)
        }))
    }
}

/// Writes rows; the file appears, whole, when [`Writer::commit`] is called.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    output: durable::Writer,
}

impl Writer {
    /// Starts a new version of the file at `path`.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        Ok(Writer { output: durable::Writer::create(&path)?, path })
    }

    /// Adds a row.
    pub fn write(&mut self, row: &impl Serialize) -> Result<()> {
        json::write(&mut self.output, row)
            .map_err(std::io::Error::from)
            .and_then(|()| self.output.write_all(b"\n"))
            .map_err(|source| Error::Io { path: self.path.clone(), source })
    }

    /// Puts the finished file in place of the old one.
    pub fn commit(self) -> Result<()> {
        Ok(self.output.commit()?)
    }
}
