use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use super::report::{Counts, Tally};
use super::{Options, Report, chat};
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
/// Rows that one thread cleans at a time.
const BATCH: usize = 512;

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
    let mut rows = Rows::read(&mut reader)?;
    let mut done: Vec<Vec<u8>> = Vec::new();
    while !rows.places.is_empty() {
        // While some threads clean, one writes what is clean already and reads on.
        let ((written, next), batches) = rayon::join(
            || (write(&mut writer, &done), Rows::read(&mut reader)),
            || rows.clean(options, strictness),
        );
        written?;
        done.clear();
        for batch in batches {
            match batch.stopped {
                None => {}
                Some((line, Stop::NotJson(error))) => return Err(reader.not_json(line, &error)),
                Some((line, Stop::Refused(problem))) => {
                    return Err(Error::Row { path: input.as_ref().to_owned(), line, problem });
                }
            }
            report.rows += batch.rows;
            report.written += batch.rows - batch.refused.len() as u64;
            batch.refused.iter().for_each(|(line, problem)| report.refuse(*line, problem));
            report.notes.add(batch.counts.into());
            done.push(batch.lines);
        }
        rows = next?;
    }
    write(&mut writer, &done)?;
    writer.commit()?;
    Ok(report)
}

fn write(writer: &mut Writer, batches: &[Vec<u8>]) -> Result<()> {
    batches.iter().try_for_each(|lines| writer.write_lines(lines))
}

/// Raw rows as they stand in the file.
struct Rows {
    bytes: Vec<u8>,
    /// The line and the bytes of each.
    places: Vec<(u64, Range<usize>)>,
}

impl Rows {
    fn read(reader: &mut Reader) -> Result<Self> {
        let bytes = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 8);
        let mut rows = Rows { bytes, places: Vec::new() };
        while rows.bytes.len() < CHUNK_BYTES {
            let Some((line, row)) = reader.next_bytes()? else { break };
            let start = rows.bytes.len();
            rows.bytes.extend_from_slice(row);
            rows.places.push((line, start..rows.bytes.len()));
        }
        Ok(rows)
    }

    fn clean(&self, options: Options, strictness: Strictness) -> Vec<Batch> {
        let batch = |places: &[(u64, Range<usize>)]| {
            let bytes = places.iter().map(|(_, range)| range.len() + 64).sum();
            let mut batch = Batch { lines: Vec::with_capacity(bytes), ..Batch::default() };
            for (line, range) in places {
                let row = self.bytes.get(range.clone()).unwrap_or_default();
                if let Err(stop) = batch.add(*line, row, options, strictness) {
                    batch.stopped = Some((*line, stop));
                    break;
                }
            }
            batch
        };
        self.places.par_chunks(BATCH).map(batch).collect()
    }
}

/// Rows that one thread has cleaned.
#[derive(Default)]
struct Batch {
    lines: Vec<u8>,
    rows: u64,
    refused: Vec<(u64, Problem)>,
    counts: Counts,
    tally: Tally,
    /// The row that refuses the whole file.
    stopped: Option<(u64, Stop)>,
}

enum Stop {
    NotJson(serde_json::Error),
    Refused(Problem),
}

impl Batch {
    fn add(
        &mut self,
        line: u64,
        row: &[u8],
        options: Options,
        strictness: Strictness,
    ) -> Result<(), Stop> {
        // One look at the whole row is cheaper than one at each of its texts.
        let raw = match std::str::from_utf8(row) {
            Ok(row) => serde_json::from_str(row),
            Err(_) => serde_json::from_slice(row),
        };
        let raw = raw.map_err(Stop::NotJson)?;
        self.rows += 1;
        self.tally.clear();
        match chat(raw, options, &mut self.tally) {
            Ok(chat) => {
                json::write(&mut self.lines, &chat).map_err(Stop::NotJson)?;
                self.lines.push(b'\n');
                self.counts.add(&self.tally);
            }
            Err(problem) if strictness == Strictness::Refuse => return Err(Stop::Refused(problem)),
            Err(problem) => self.refused.push((line, problem)),
        }
        Ok(())
    }
}
