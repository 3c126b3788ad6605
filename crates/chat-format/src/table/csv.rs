//! Comma-separated values (RFC 4180), and the same with semicolons or tabs.

use std::borrow::Cow;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use csv::{ByteRecord, ReaderBuilder};

use super::{broken, push, push_odd};
use crate::input::{self, Input};
use crate::jsonl::{Block, LONGEST};
use crate::raw::{Fields, Raw};
use crate::{Error, Problem, Result};

/// Reads the rows of a file with a header, in constant memory. The values are texts, and empty ones are null.
pub(crate) struct CsvRows {
    path: PathBuf,
    reader: csv::Reader<Tee>,
    columns: Vec<String>,
    record: ByteRecord,
}

impl CsvRows {
    /// Opens a file. The header tells the separator: of comma, semicolon and tab, the most frequent.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let failed = |source| Error::Io { path: path.to_owned(), source };
        let mut input = input::open(path).map_err(failed)?;
        let start = input.fill_buf().map_err(failed)?;
        if input::is_utf16(start) {
            return Err(broken(path, 1, "found UTF-16; convert the file to UTF-8"));
        }
        let separator = separator(start);
        let tee = Tee { input, left: LONGEST, bytes: Vec::new(), start: 0 };
        let mut builder = ReaderBuilder::new();
        let reader = builder.delimiter(separator).flexible(true).from_reader(tee);
        let (path, record) = (path.to_owned(), ByteRecord::new());
        let mut rows = CsvRows { path, reader, columns: Vec::new(), record };
        let header = rows.reader.byte_headers().map_err(|error| broken(&rows.path, 1, error))?;
        rows.columns = columns(header).map_err(|reason| broken(&rows.path, 1, reason))?;
        Ok(rows)
    }

    /// Fills an empty block with `wanted` bytes of rows or a little more.
    pub(crate) fn next_block(&mut self, wanted: usize, block: &mut Block) -> Result<()> {
        while block.bytes.len() < wanted {
            let line = self.reader.position().line();
            self.reader.get_mut().left = LONGEST;
            let read = self.reader.read_byte_record(&mut self.record);
            if !read.map_err(|error| broken(&self.path, line, error))? {
                break;
            }
            let (start, end) = (self.record.position(), self.reader.position().byte());
            let (line, start) = start.map_or((line, end), |start| (start.line(), start.byte()));
            let bytes = self.reader.get_ref().record(start, end);
            // Blank lines before a record count as part of it.
            let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            let (blank, bytes) = bytes.split_at(blank);
            let line = line + memchr::memchr_iter(b'\n', blank).count() as u64;
            match fields(&self.columns, &self.record, bytes) {
                Ok(fields) => {
                    push(block, line, &fields).map_err(|error| broken(&self.path, line, error))?
                }
                Err(problem) => push_odd(block, line, bytes, problem),
            }
            self.reader.get_mut().forget(end);
        }
        Ok(())
    }
}

/// The names of the columns; those without a name are numbered.
fn columns(header: &ByteRecord) -> Result<Vec<String>, String> {
    let mut columns: Vec<String> = Vec::with_capacity(header.len());
    for (index, name) in header.iter().enumerate() {
        let name = std::str::from_utf8(name).map_err(|_| "expected names of columns in UTF-8")?;
        let name = match name.trim() {
            "" => format!("column_{}", index + 1),
            name => name.to_owned(),
        };
        if columns.contains(&name) {
            return Err(format!("expected columns of different names, found two {name:?}"));
        }
        columns.push(name);
    }
    Ok(columns)
}

/// The values of a record as fields. `bytes` is the record as it is in the file.
fn fields<'a>(
    columns: &'a [String],
    record: &'a ByteRecord,
    bytes: &[u8],
) -> Result<Fields<'a>, Problem> {
    let quotes = memchr::memchr_iter(b'"', bytes).count();
    let lines = memchr::memchr(b'\n', bytes.trim_ascii()).is_some();
    // Without this, a quote that is never closed would take in all rows after it.
    if quotes % 2 == 1 && (lines || !bytes.ends_with(b"\n")) {
        return Err(Problem::new("", "quotes that are closed", "an odd number of quotes"));
    }
    if record.len() != columns.len() {
        let (expected, found) = (columns.len(), record.len());
        return Err(Problem::new("", format!("{expected} columns"), format!("{found}")));
    }
    let value = |(name, value): (&'a String, &'a [u8])| {
        let value = std::str::from_utf8(value).map_err(|error| {
            let found = format!("another encoding at byte {}", error.valid_up_to() + 1);
            Problem::new(name.as_str(), "text in UTF-8", found)
        })?;
        let value = if value.is_empty() { Raw::Null } else { Raw::Text(Cow::Borrowed(value)) };
        Ok((Cow::Borrowed(name.as_str()), value))
    };
    columns.iter().zip(record.iter()).map(value).collect()
}

/// The separator that a header has most of, outside of quotes.
fn separator(start: &[u8]) -> u8 {
    let mut counts = [(b'\t', 0), (b';', 0), (b',', 0)];
    let mut quoted = false;
    for &byte in start {
        quoted ^= byte == b'"';
        if quoted {
            continue;
        }
        if byte == b'\n' {
            break;
        }
        if let Some((_, count)) = counts.iter_mut().find(|(separator, _)| *separator == byte) {
            *count += 1;
        }
    }
    counts.iter().max_by_key(|(_, count)| *count).map_or(b',', |(separator, _)| *separator)
}

/// Hands bytes on and keeps those of the record being read.
struct Tee {
    input: Input,
    /// How much more of this record may be read.
    left: usize,
    bytes: Vec<u8>,
    /// Where `bytes` start in the file.
    start: u64,
}

impl Tee {
    fn record(&self, start: u64, end: u64) -> &[u8] {
        let at = |place: u64| place.saturating_sub(self.start) as usize;
        self.bytes.get(at(start)..at(end)).unwrap_or_default()
    }

    fn forget(&mut self, end: u64) {
        let done = end.saturating_sub(self.start) as usize;
        // What is left is at most a buffer of the reader.
        self.bytes.drain(..done.min(self.bytes.len()));
        self.start = end;
    }
}

impl Read for Tee {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            let reason = format!("a row is longer than {LONGEST} bytes; is a quote never closed?");
            return Err(io::Error::other(reason));
        }
        let part = out.len().min(self.left);
        let read = self.input.read(out.get_mut(..part).unwrap_or_default())?;
        self.left -= read;
        self.bytes.extend_from_slice(out.get(..read).unwrap_or_default());
        Ok(read)
    }
}
