//! Reads files of JSON rows one row at a time, and writes them atomically.

mod elements;
mod layout;
mod rewind;

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::input;
use crate::{Conversation, Error, Problem, Result, json};
use elements::Elements;
use layout::Layout;
use rewind::Rewind;

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

/// Reads rows one by one in constant memory: one JSON value a line, the elements of arrays, or objects of several lines
/// each; plain, gzip or zstd. An array of messages is one row, on a line of its own or as a file. A byte order mark, CRLF
/// line ends and blank lines are accepted.
///
/// A row that is not JSON is an error, and reading goes on behind it. An element of an array that is broken ends where an object
/// begins as the first one of the file did, or else with the file: at most one row is lost, or the file is refused.
pub struct Reader {
    path: PathBuf,
    input: Rewind,
    layout: Layout,
    elements: Elements,
    /// The line being read, from 1.
    line: u64,
    bytes: Vec<u8>,
}

/// Where a row is in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The line that it begins on, from 1.
    pub(crate) line: u64,
    /// Which element of an array it is, from 0.
    pub(crate) element: Option<u64>,
}

impl Place {
    pub(crate) fn on_line(line: u64) -> Self {
        Place { line, element: None }
    }

    /// A problem of the row, with the element in front of its field.
    pub(crate) fn of(self, problem: Problem) -> Problem {
        let Some(element) = self.element else { return problem };
        let dot = if problem.field.is_empty() { "" } else { "." };
        Problem { field: format!("[{element}]{dot}{}", problem.field), ..problem }
    }
}

/// The line, and the element behind it: `17` or `1[16]`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.line)?;
        self.element.map_or(Ok(()), |element| write!(f, "[{element}]"))
    }
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
    pub(crate) place: Place,
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
        let (input, layout, elements) = (Rewind::new(input), Layout::Lines, Elements::default());
        let mut reader = Reader { path, input, layout, elements, line: 1, bytes: Vec::new() };
        match reader.buffer()? {
            [0xef, 0xbb, 0xbf, ..] => reader.input.consume(3),
            start if input::is_utf16(start) => {
                return Err(reader.broken("UTF-16; convert the file to UTF-8"));
            }
            _ => {}
        }
        reader.layout = match reader.skip_space()? {
            Some(b'[') => Layout::of_array(reader.buffer()?),
            Some(b'{') => Layout::of_object(reader.buffer()?),
            _ => Layout::Lines,
        };
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

    /// Reads the next row into `bytes`. The problem is that of a row that is not there as a whole.
    fn next_row(&mut self) -> Result<Option<(Place, Option<Problem>)>> {
        if self.layout == Layout::Elements {
            return self.next_element();
        }
        if self.skip_space()?.is_none() {
            return Ok(None);
        }
        let place = Place::on_line(self.line);
        self.bytes.clear();
        match self.layout {
            Layout::Whole => {
                let mut all = self.input.by_ref().take(LONGEST as u64 + 1);
                let read = all.read_to_end(&mut self.bytes);
                read.map_err(|source| self.damaged(&self.bytes, source))?;
                self.check_length(self.bytes.len())?;
            }
            _ => self.read_line()?,
        }
        Ok(Some((place, None)))
    }

    /// Fills an empty block with complete rows, `wanted` bytes of them or a little more.
    pub(crate) fn next_block(&mut self, wanted: usize, block: &mut Block) -> Result<()> {
        if self.layout != Layout::Lines {
            while block.bytes.len() < wanted {
                let Some((place, problem)) = self.next_row()? else { break };
                let row = json::trim(&self.bytes);
                let range = block.bytes.len()..block.bytes.len() + row.len();
                block.rows.push(BlockRow { place, range, problem: problem.map(Box::new) });
                block.bytes.extend_from_slice(row);
            }
            return Ok(());
        }
        // Many lines are read at once, because reading them one by one would copy each line twice more.
        let mut read = self.read_part(wanted, &mut block.bytes);
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
                let place = Place::on_line(self.line);
                block.rows.push(BlockRow { place, range: start..end, problem: None });
            }
            if end < block.bytes.len() {
                self.line += 1;
            }
            start = end + 1;
        }
        Ok(())
    }

    /// Appends `wanted` bytes of the input, or what is left of it. (`Read::read_to_end` fills the whole capacity with zeros before
    /// each read.)
    fn read_part(&mut self, wanted: usize, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let mut left = wanted;
        while left > 0 {
            let part = match self.input.fill_buf() {
                Ok([]) => break,
                Ok(buffer) => buffer.get(..left).unwrap_or(buffer),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            bytes.extend_from_slice(part);
            let read = part.len();
            left -= read;
            self.input.consume(read);
        }
        Ok(wanted - left)
    }

    /// Reads a line that is too long to its end, and keeps only its beginning. It is at `start..end` of the block so far.
    fn skip_long_line(&mut self, start: usize, end: usize, block: &mut Block) -> Result<()> {
        const KEPT: usize = 1000;
        let (place, mut length) = (Place::on_line(self.line), end - start);
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
        block.rows.push(BlockRow { place, range: start..start + KEPT, problem });
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
            return Err(self.broken(&format!("a row longer than {LONGEST} bytes")));
        }
        Ok(())
    }

    fn broken(&self, found: &str) -> Error {
        let (path, found) = (self.path.clone(), found.to_owned());
        Error::Json { path, line: self.line, column: 1, found }
    }
}

/// The error of a row that is not JSON. The parser counts lines from the beginning of the row, and columns too: those of an
/// element are none of the file's.
pub(crate) fn not_json(
    path: &Path,
    place: Place,
    error: &serde_json::Error,
    found: String,
) -> Error {
    let (path, line) = (path.to_owned(), place.line + (error.line() as u64).saturating_sub(1));
    match place.element {
        Some(_) => Error::Row { path, line, problem: place.of(Problem::new("", "JSON", found)) },
        None => Error::Json { path, line, column: error.column() as u64, found },
    }
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
        let (place, problem) = match self.next_row() {
            Ok(next) => next?,
            Err(error) => {
                // The beginning of the next row is unknown, so reading ends here.
                (self.input, self.layout) = (Rewind::new(Box::new(io::empty())), Layout::Lines);
                return Some(Err(error));
            }
        };
        if let Some(problem) = problem {
            let (path, line) = (self.path.clone(), place.line);
            return Some(Err(Error::Row { path, line, problem: place.of(problem) }));
        }
        let bytes = json::trim(&self.bytes);
        let value = json::parse(bytes).map_err(|error| {
            let found = json::reason(bytes, &error);
            not_json(&self.path, place, &error, found)
        });
        Some(value.map(|value| Row { line: place.line, value }))
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

    /// The rows written so far, to be changed in place.
    pub(crate) fn file(&mut self) -> Result<&mut File> {
        self.output.file().map_err(|source| Error::Io { path: self.path.clone(), source })
    }

    /// Puts the finished file in place of the old one.
    pub fn commit(self) -> Result<()> {
        Ok(self.output.commit()?)
    }
}
