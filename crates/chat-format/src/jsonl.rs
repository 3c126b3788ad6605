//! Reads files of JSON rows one row at a time, and writes them atomically.

mod layout;

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::input::{self, Input};
use crate::{Conversation, Error, Problem, Result, json};
use layout::Layout;

/// The maximum length of a row in bytes. A row is held in memory as a whole, and no conversation is this long.
pub(crate) const LONGEST: usize = 64 << 20;

/// One row of a file.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Row {
    /// Its line, from 1.
    pub line: u64,
    /// Its JSON.
    pub value: Value,
}

/// Reads rows one by one in constant memory: one JSON value a line, the elements of one array, or objects of several lines
/// each; plain, gzip or zstd. An array of messages is one row, on a line of its own or as a file. A byte order mark, CRLF
/// line ends and blank lines are accepted.
pub struct Reader {
    path: PathBuf,
    input: Input,
    layout: Layout,
    /// The line being read, from 1.
    line: u64,
    bytes: Vec<u8>,
}

/// Many rows of a file.
#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(crate) bytes: Vec<u8>,
    pub(crate) rows: Vec<BlockRow>,
}

/// A row of a block.
#[derive(Debug)]
pub(crate) struct BlockRow {
    /// Its line, from 1.
    pub(crate) line: u64,
    /// Where it is in the block.
    pub(crate) range: Range<usize>,
    /// Why it cannot be read.
    pub(crate) problem: Option<Box<Problem>>,
}

impl Reader {
    /// Opens a file of rows.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, and a file in UTF-16.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let input = match input::open(&path) {
            Ok(input) => input,
            Err(source) => return Err(Error::Io { path, source }),
        };
        let layout = Layout::Lines;
        let mut reader = Reader { path, input, layout, line: 1, bytes: Vec::new() };
        match reader.buffer()? {
            [0xef, 0xbb, 0xbf, ..] => reader.input.consume(3),
            start if input::is_utf16(start) => {
                return Err(reader.broken("found UTF-16; convert the file to UTF-8"));
            }
            _ => {}
        }
        reader.layout = match reader.skip_space()? {
            Some(b'[') => Layout::of_array(reader.buffer()?),
            Some(b'{') => Layout::of_object(reader.buffer()?),
            _ => Layout::Lines,
        };
        if reader.layout == Layout::ArrayStart {
            reader.input.consume(1);
        }
        Ok(reader)
    }

    /// Parses each row as a [`Conversation`]. Rows of other shapes are errors; for those see [`clean`](crate::clean).
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

    /// The bytes of the next row, and the line it starts on.
    pub(crate) fn next_bytes(&mut self) -> Result<Option<(u64, &[u8])>> {
        let Some(next) = self.skip_space()? else {
            return match self.layout {
                Layout::ArrayStart | Layout::Array => {
                    Err(self.broken("the file ends inside the array"))
                }
                _ => Ok(None),
            };
        };
        let mut line = self.line;
        self.bytes.clear();
        match self.layout {
            Layout::Lines => self.read_line()?,
            Layout::Whole => {
                let mut all = self.input.by_ref().take(LONGEST as u64 + 1);
                let read = all.read_to_end(&mut self.bytes);
                read.map_err(|source| self.damaged(&self.bytes, source))?;
                self.check_length(self.bytes.len())?;
            }
            Layout::Objects if next == b'{' => self.read_nested()?,
            Layout::Objects => return Err(self.broken("expected an object")),
            Layout::ArrayEnd => return Err(self.broken("text after the array")),
            Layout::ArrayStart | Layout::Array => {
                if next == b']' {
                    self.input.consume(1);
                    self.layout = Layout::ArrayEnd;
                    return self.next_bytes();
                }
                line = self.read_element(next)?;
            }
        }
        Ok(Some((line, json::trim(&self.bytes))))
    }

    /// Fills an empty block with complete rows, `wanted` bytes of them or a little more.
    pub(crate) fn next_block(&mut self, wanted: usize, block: &mut Block) -> Result<()> {
        if self.layout != Layout::Lines {
            while block.bytes.len() < wanted {
                let Some((line, row)) = self.next_bytes()? else { break };
                let range = block.bytes.len()..block.bytes.len() + row.len();
                block.rows.push(BlockRow { line, range, problem: None });
                block.bytes.extend_from_slice(row);
            }
            return Ok(());
        }
        // Many lines are read at once, because reading them one by one would copy each line twice more.
        let mut part = self.input.by_ref().take(wanted as u64);
        let mut read = part.read_to_end(&mut block.bytes);
        let whole = memchr::memrchr(b'\n', &block.bytes).map_or(0, |end| end + 1);
        if read.is_ok() && whole < block.bytes.len() {
            let mut rest = self.input.by_ref().take(LONGEST as u64 + 1);
            read = rest.read_until(b'\n', &mut block.bytes);
        }
        read.map_err(|source| self.damaged(&block.bytes, source))?;
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &block.bytes).chain([block.bytes.len()]) {
            if end - start > LONGEST {
                // Only the last one of a block can be this long.
                return self.skip_long_line(start, end, block);
            }
            if !json::trim(&block.bytes[start..end]).is_empty() {
                block.rows.push(BlockRow { line: self.line, range: start..end, problem: None });
            }
            if end < block.bytes.len() {
                self.line += 1;
            }
            start = end + 1;
        }
        Ok(())
    }

    /// Reads a line that is too long to its end, and keeps only its beginning. It is at `start..end` of the block so far.
    fn skip_long_line(&mut self, start: usize, end: usize, block: &mut Block) -> Result<()> {
        const KEPT: usize = 1000;
        let (line, mut length) = (self.line, end - start);
        let mut ended = end < block.bytes.len();
        block.bytes.truncate(start + KEPT);
        while !ended {
            let buffer = self.buffer()?;
            let part = memchr::memchr(b'\n', buffer).unwrap_or(buffer.len());
            ended = part < buffer.len() || buffer.is_empty();
            let used = (part + 1).min(buffer.len());
            length += part;
            self.input.consume(used);
        }
        self.line += 1;
        let expected = format!("a row of at most {LONGEST} bytes");
        let found = format!("one of {length}, of which the first {KEPT} are kept here");
        let problem = Some(Box::new(Problem::new("", expected, found)));
        block.rows.push(BlockRow { line, range: start..start + KEPT, problem });
        Ok(())
    }

    fn read_line(&mut self) -> Result<()> {
        let mut line = self.input.by_ref().take(LONGEST as u64 + 1);
        let read = line.read_until(b'\n', &mut self.bytes);
        read.map_err(|source| self.damaged(&self.bytes, source))?;
        self.check_length(self.bytes.len())?;
        self.line += u64::from(self.bytes.ends_with(b"\n"));
        Ok(())
    }

    /// Reads the bytes of one element of an array, and returns its line. Only strings and nesting are tracked; the JSON parser
    /// validates the rest.
    fn read_element(&mut self, mut next: u8) -> Result<u64> {
        if self.layout == Layout::Array {
            if next != b',' {
                return Err(self.broken("expected `,` or `]`"));
            }
            self.input.consume(1);
            next = self.skip_space()?.unwrap_or(b']');
        }
        if !matches!(next, b'{' | b'[') {
            return Err(self.broken("expected an object"));
        }
        self.layout = Layout::Array;
        // The comma may be on the line of the element before.
        let line = self.line;
        self.read_nested()?;
        Ok(line)
    }

    /// Reads the bytes of one object or array.
    fn read_nested(&mut self) -> Result<()> {
        let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
        loop {
            let buffer = self.buffer()?;
            let mut end = None;
            for (at, &byte) in buffer.iter().enumerate() {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if in_text => escaped = true,
                    b'"' => in_text = !in_text,
                    b'{' | b'[' if !in_text => depth += 1,
                    b'}' | b']' if !in_text => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    end = Some(at + 1);
                    break;
                }
            }
            let length = end.unwrap_or(buffer.len());
            if length == 0 {
                return Err(self.broken("the file ends inside an object"));
            }
            let part = buffer[..length].to_vec();
            self.line += part.iter().filter(|&&byte| byte == b'\n').count() as u64;
            self.bytes.extend(part);
            self.input.consume(length);
            self.check_length(self.bytes.len())?;
            if end.is_some() {
                return Ok(());
            }
        }
    }

    /// Skips white space and returns the next byte without consuming it.
    fn skip_space(&mut self) -> Result<Option<u8>> {
        loop {
            let buffer = self.buffer()?;
            let space = buffer.iter().take_while(|&&byte| json::is_space(byte)).count();
            let lines = buffer[..space].iter().filter(|&&byte| byte == b'\n').count();
            let next = buffer.get(space).copied();
            self.line += lines as u64;
            self.input.consume(space);
            if next.is_some() || space == 0 {
                return Ok(next);
            }
        }
    }

    fn buffer(&mut self) -> Result<&[u8]> {
        // The borrow checker does not accept returning the buffer of the first call, and the second call does not read again.
        match self.input.fill_buf() {
            Ok(_) => Ok(self.input.fill_buf().unwrap_or_default()),
            Err(source) => Err(self.damaged(&[], source)),
        }
    }

    /// The error of a read that failed after `part`, which begins on the current line.
    fn damaged(&self, part: &[u8], source: io::Error) -> Error {
        let line = self.line + memchr::memchr_iter(b'\n', part).count() as u64;
        let begun = part.len() - memchr::memrchr(b'\n', part).map_or(0, |end| end + 1);
        Error::Damaged { path: self.path.clone(), line, column: begun as u64 + 1, source }
    }

    fn check_length(&self, length: usize) -> Result<()> {
        if length > LONGEST {
            return Err(self.broken(&format!("a row is longer than {LONGEST} bytes")));
        }
        Ok(())
    }

    fn broken(&self, reason: &str) -> Error {
        let (path, reason) = (self.path.clone(), reason.to_owned());
        Error::Json { path, line: self.line, column: 1, reason }
    }
}

/// The error of a row that is not JSON and begins at `line`; the parser counts lines from there.
pub(crate) fn not_json(path: &Path, line: u64, error: &serde_json::Error, reason: String) -> Error {
    let line = line + (error.line() as u64).saturating_sub(1);
    Error::Json { path: path.to_owned(), line, column: error.column() as u64, reason }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("path", &self.path)
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

impl Iterator for Reader {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        let (line, parsed) = match self.next_bytes() {
            Ok(Some((line, bytes))) => {
                let parsed = serde_json::from_slice(bytes);
                (line, parsed.map_err(|error| (json::reason(bytes, &error), error)))
            }
            Ok(None) => return None,
            Err(error) => {
                // The beginning of the next row is unknown, so reading ends here.
                (self.input, self.layout) = (Box::new(io::empty()), Layout::Lines);
                return Some(Err(error));
            }
        };
        let row = parsed.map(|value| Row { line, value });
        Some(row.map_err(|(reason, error)| not_json(&self.path, line, &error, reason)))
    }
}

/// Writes rows, one a line. The file appears when [`Writer::commit`] is called.
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
        let mut line = Vec::new();
        json::write(&mut line, row)
            .map_err(|error| Error::Io { path: self.path.clone(), source: error.into() })?;
        line.push(b'\n');
        self.write_lines(&line)
    }

    /// Adds rows that are already formatted as lines.
    pub(crate) fn write_lines(&mut self, lines: &[u8]) -> Result<()> {
        let written = self.output.write_all(lines);
        written.map_err(|source| Error::Io { path: self.path.clone(), source })
    }

    /// Puts the finished file in place of the old one.
    pub fn commit(self) -> Result<()> {
        Ok(self.output.commit()?)
    }
}
