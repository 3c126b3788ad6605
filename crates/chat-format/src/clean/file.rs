use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use super::report::{Counts, Tally};
use super::{Clean, Options, Report, shape};
use crate::jsonl::{Block, Reader, Writer};
use crate::raw::Raw;
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
const BLOCK: usize = 4 << 20;
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
    let (mut block, mut next) = (Block::default(), Block::default());
    reader.next_block(BLOCK, &mut block)?;
    let mut done: Vec<Batch> = Vec::new();
    while !block.bytes.is_empty() {
        // While some threads clean, one writes what is clean already and reads on.
        let (moved, mut batches) = rayon::join(
            || write(&mut writer, &done).and_then(|()| read(&mut reader, &mut next)),
            || clean(&block, options, strictness),
        );
        moved?;
        for batch in &mut batches {
            match batch.stopped.take() {
                None => {}
                Some((line, Stop::NotJson(error))) => return Err(reader.not_json(line, &error)),
                Some((line, Stop::Refused(problem))) => {
                    return Err(Error::Row { path: input.as_ref().to_owned(), line, problem });
                }
            }
            report.rows += batch.rows;
            report.written += batch.rows - batch.refused.len() as u64;
            batch.refused.iter().for_each(|(line, problem)| report.refuse(*line, problem));
            report.notes.add(std::mem::take(&mut batch.counts).into());
        }
        done = batches;
        std::mem::swap(&mut block, &mut next);
    }
    write(&mut writer, &done)?;
    writer.commit()?;
    Ok(report)
}

fn read(reader: &mut Reader, block: &mut Block) -> Result<()> {
    block.bytes.clear();
    block.rows.clear();
    reader.next_block(BLOCK, block)
}

fn write(writer: &mut Writer, batches: &[Batch]) -> Result<()> {
    batches.iter().try_for_each(|batch| writer.write_lines(&batch.lines))
}

fn clean(block: &Block, options: Options, strictness: Strictness) -> Vec<Batch> {
    let batch = |rows: &[(u64, Range<usize>)]| {
        let bytes = rows.iter().map(|(_, range)| range.len() + 64).sum();
        let mut batch = Batch { lines: Vec::with_capacity(bytes), ..Batch::default() };
        for (line, range) in rows {
            let row = block.bytes.get(range.clone()).unwrap_or_default();
            if let Err(stop) = batch.add(*line, row, options, strictness) {
                batch.stopped = Some((*line, stop));
                break;
            }
        }
        batch
    };
    block.rows.par_chunks(BATCH).map(batch).collect()
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
        let raw = parse(row).map_err(Stop::NotJson)?;
        self.rows += 1;
        self.tally.clear();
        match self.clean(raw, options) {
            Err(Stop::Refused(problem)) if strictness == Strictness::LeaveOut => {
                self.refused.push((line, problem));
                Ok(())
            }
            done => done,
        }
    }

    fn clean(&mut self, raw: Raw<'_>, options: Options) -> Result<(), Stop> {
        let mut chat = shape::read(raw, &mut self.tally).map_err(Stop::Refused)?;
        let clean = Clean::new(&mut chat, options, &mut self.tally).map_err(Stop::Refused)?;
        json::write(&mut self.lines, &clean).map_err(Stop::NotJson)?;
        self.lines.push(b'\n');
        self.counts.add(&self.tally);
        Ok(())
    }
}

fn parse(row: &[u8]) -> Result<Raw<'_>, serde_json::Error> {
    serde_json::from_slice(row)
}
