//! Logs grow: the same conversation is logged again with every turn. A row that is the beginning of a longer one is merged
//! into it.
//!
//! Each beginning of a row has a digest of 128 bits, chained from message to message. A row is the beginning of a longer
//! one if the digest of the whole of it is that of a beginning of the other. Since the longer row may come later, all rows
//! are written, and those that are merged are taken out of the file once the last one is read; in memory are 18 bytes a
//! message and 56 bytes a row.

use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::Serialize;

use super::report::Report;
use super::written::Parts;
use super::{SOURCE_ROW, sources};
use crate::jsonl::{Place, Writer};
use crate::raw::{Fields, Raw};
use crate::{Error, Result};

/// About how many bytes are read and written at a time.
const BUFFER: u64 = 1 << 20;

/// What is known of the rows of a conversion until all are read.
#[derive(Default)]
pub(super) struct Held {
    /// The digests of the beginnings of all rows, the shorter ones of a row first. The last is that of the whole row.
    digests: Vec<u128>,
    rows_read: Vec<RowRead>,
}

/// A row that was read.
#[derive(Debug, Clone, Copy)]
struct RowRead {
    /// Its file: an index into the files of the report.
    file: usize,
    place: Place,
    /// Where its digests end.
    digests: usize,
    /// Where its line ends in the output.
    line: u64,
}

/// Digests of the rows of a batch.
#[derive(Debug, Default)]
pub(super) struct Digests {
    digests: Vec<u128>,
    /// The place of each row, where its digests end, and where its line ends.
    rows: Vec<(Place, usize, usize)>,
    /// What is digested next.
    bytes: Vec<u8>,
}

impl Digests {
    pub(super) fn clear(&mut self) {
        self.digests.clear();
        self.rows.clear();
    }

    /// Digests a clean row, as it is written. Rows are of one conversation only if they have the same tools, and the same
    /// values under `same`. [`Digests::end`] adds the row.
    pub(super) fn begin(&mut self, row: &[u8], same: &[String]) {
        let Digests { digests, rows, bytes } = self;
        digests.truncate(rows.last().map_or(0, |&(_, digests, _)| digests));
        let (mut messages, mut fields) = (Vec::new(), Vec::with_capacity(8));
        let mut parts = Parts::of(row);
        while let Some(key) = parts.next() {
            match key {
                b"\"messages\"" => messages = parts.enter(),
                key => fields.extend(parts.next().map(|value| (key, value))),
            }
        }
        let value = |key: &str| {
            let field = fields.iter().find(|(name, _)| names(name, key));
            field.map_or(&b"null"[..], |(_, value)| value)
        };
        bytes.clear();
        for key in same.iter().map(String::as_str).chain(["tools"]) {
            bytes.extend_from_slice(value(key));
        }
        for message in messages {
            bytes.extend_from_slice(message);
            let digest = digest(bytes);
            digests.push(digest);
            bytes.clear();
            bytes.extend(digest.to_le_bytes());
        }
    }

    /// Adds the row that was digested last. Its line ends at byte `line` of those of the batch.
    pub(super) fn end(&mut self, place: Place, line: usize) {
        self.rows.push((place, self.digests.len(), line));
    }
}

/// Whether a key as it is written, with its quotation marks, is `key`.
fn names(written: &[u8], key: &str) -> bool {
    match written {
        [b'"', name @ .., b'"'] if !name.contains(&b'\\') => name == key.as_bytes(),
        _ => serde_json::from_slice::<String>(written).is_ok_and(|name| name == key),
    }
}

/// The first half of SHA-256.
fn digest(bytes: &[u8]) -> u128 {
    let bytes = *durable::digest(bytes).as_bytes();
    bytes.iter().take(16).fold(0, |number, &byte| number << 8 | u128::from(byte))
}

impl Held {
    /// Notes rows of a file, in the order in which they are written.
    pub(super) fn note(&mut self, digests: &Digests, file: usize) {
        let (before, lines) = (self.digests.len(), self.end_of(self.rows_read.len()));
        self.digests.extend(&digests.digests);
        self.rows_read.extend(digests.rows.iter().map(|&(place, digests, line)| RowRead {
            file,
            place,
            digests: before + digests,
            line: lines + line as u64,
        }));
    }

    /// Takes the rows out of the output that are the beginning of another.
    pub(super) fn finish(
        self,
        writer: &mut Writer,
        list: &mut List<'_>,
        report: &mut Report,
        output: &Path,
    ) -> Result<()> {
        let merged = self.merged();
        let Some(&first) = merged.keys().min() else { return Ok(()) };
        let file = writer.file()?;
        let (mut next, mut written) = (first, self.end_of(first));
        let (mut lines, mut kept) = (Vec::new(), Vec::new());
        while next < self.rows_read.len() {
            let start = self.end_of(next);
            let few = |row: &RowRead| row.line <= start + BUFFER;
            let more = self.rows_read.get(next + 1..).unwrap_or_default().partition_point(few);
            let rows = next..next + 1 + more;
            lines.resize((self.end_of(rows.end) - start) as usize, 0);
            file.seek(SeekFrom::Start(start)).map_err(failed(output))?;
            file.read_exact(&mut lines).map_err(failed(output))?;
            next = rows.end;
            for row in rows {
                let line =
                    (self.end_of(row) - start) as usize..(self.end_of(row + 1) - start) as usize;
                let line = lines.get(line).unwrap_or_default();
                let into = merged.get(&row).and_then(|&longer| self.rows_read.get(longer));
                match (self.rows_read.get(row), into) {
                    (Some(read), Some(longer)) => {
                        list.add(read, longer, report)?;
                        report.merge((read.file, read.place), (longer.file, longer.place));
                        note_keys(line, report);
                    }
                    _ => kept.extend_from_slice(line),
                }
            }
            file.seek(SeekFrom::Start(written)).map_err(failed(output))?;
            file.write_all(&kept).map_err(failed(output))?;
            written += kept.len() as u64;
            kept.clear();
        }
        file.set_len(written).map_err(failed(output))
    }

    /// Where the lines of the first `rows` rows end in the output.
    fn end_of(&self, rows: usize) -> u64 {
        let last = rows.checked_sub(1).and_then(|last| self.rows_read.get(last));
        last.map_or(0, |row| row.line)
    }

    /// The rows that are the beginning of another, each with the longest such row.
    fn merged(&self) -> HashMap<usize, usize> {
        let whole = |row: usize| self.of_row(row).last();
        // Few rows are the beginning of another one, and few beginnings are a row: the others are not searched for.
        let rows = 0..self.rows_read.len();
        let beginnings = rows
            .clone()
            .flat_map(|row| self.of_row(row).split_last().map_or(&[][..], |(_, before)| before));
        let beginnings = Sieve::of(beginnings, self.digests.len());
        let may_begin = |&row: &usize| whole(row).is_some_and(|digest| beginnings.may_hold(digest));
        let mut sorted: Vec<usize> = rows.filter(may_begin).collect();
        sorted.sort_unstable_by_key(|&row| whole(row));
        let wholes = Sieve::of(sorted.iter().filter_map(|&row| whole(row)), sorted.len());
        // The longest row by where, in `sorted`, the rows begin that are a beginning of it: equal rows share one entry.
        let mut longest: HashMap<usize, usize> = HashMap::new();
        for longer in 0..self.rows_read.len() {
            let [beginnings @ .., _] = self.of_row(longer) else { continue };
            for beginning in beginnings.iter().filter(|digest| wholes.may_hold(digest)) {
                let first = sorted.partition_point(|&row| whole(row) < Some(beginning));
                if sorted.get(first).is_none_or(|&row| whole(row) != Some(beginning)) {
                    continue;
                }
                let into = longest.entry(first).or_insert(longer);
                if self.of_row(*into).len() < self.of_row(longer).len() {
                    *into = longer;
                }
            }
        }
        let equal = |(first, longer): (usize, usize)| {
            let rows =
                sorted.get(first..).unwrap_or_default().chunk_by(|&a, &b| whole(a) == whole(b));
            rows.take(1).flatten().map(move |&row| (row, longer))
        };
        longest.into_iter().flat_map(equal).collect()
    }

    fn of_row(&self, row: usize) -> &[u128] {
        let end = |row: usize| self.rows_read.get(row).map_or(0, |read| read.digests);
        let start = row.checked_sub(1).map_or(0, end);
        self.digests.get(start..end(row)).unwrap_or_default()
    }
}

/// A set of digests that may seem to hold some that it does not.
struct Sieve {
    bits: Vec<u64>,
}

impl Sieve {
    /// `count` is about how many there are.
    fn of<'d>(digests: impl Iterator<Item = &'d u128>, count: usize) -> Self {
        // A byte for each, so that at most one of eight others seems to be in the set.
        let mut sieve = Sieve { bits: vec![0; (count / 8).next_power_of_two()] };
        for digest in digests {
            let (word, bit) = sieve.place(digest);
            if let Some(word) = sieve.bits.get_mut(word) {
                *word |= bit;
            }
        }
        sieve
    }

    fn may_hold(&self, digest: &u128) -> bool {
        let (word, bit) = self.place(digest);
        self.bits.get(word).is_some_and(|word| word & bit != 0)
    }

    /// The word of a digest and its bit in it. Digests are evenly distributed.
    fn place(&self, digest: &u128) -> (usize, u64) {
        let low = *digest as usize;
        (low >> 6 & (self.bits.len() - 1), 1 << (low & 63))
    }
}

/// The list of merged rows.
pub(super) struct List<'a> {
    pub(super) merged: Option<&'a mut Writer>,
    /// The folder below which files are named.
    pub(super) base: Option<&'a Path>,
}

#[derive(Serialize)]
struct Entry {
    file: String,
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    element: Option<u64>,
    into_file: String,
    into_line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    into_element: Option<u64>,
}

impl List<'_> {
    fn add(&mut self, row: &RowRead, into: &RowRead, report: &Report) -> Result<()> {
        let Some(writer) = &mut self.merged else { return Ok(()) };
        let name = |file: usize| {
            let file = report.files.get(file).map(|file| file.file.as_path());
            sources::name(file.unwrap_or(Path::new("")), self.base)
        };
        let Place { line, element } = row.place;
        let Place { line: into_line, element: into_element } = into.place;
        let (file, into_file) = (name(row.file), name(into.file));
        writer.write(&Entry { file, line, element, into_file, into_line, into_element })
    }
}

/// Names the keys that a merged row had beside its messages: they are not in the longer row.
fn note_keys(row: &[u8], report: &mut Report) {
    let fields: Fields<'_> = match serde_json::from_slice(row) {
        Ok(Raw::Object(fields)) => fields,
        _ => return,
    };
    for key in fields.keys().filter(|key| !matches!(*key, "messages" | "tools" | SOURCE_ROW)) {
        *report.notes.ignored.entry(format!("{key} of merged rows")).or_default() += 1;
    }
}

fn failed(output: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io { path: output.to_owned(), source }
}
