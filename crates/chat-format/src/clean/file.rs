use std::path::Path;

use rayon::prelude::*;

use super::report::{Counts, Tally};
use super::{Clean, Options, Report, fast_path, shape};
use crate::jsonl::{Block, Reader, Writer};
use crate::raw::Raw;
use crate::{Error, Problem, Result, json};

/// What happens when a row cannot be cleaned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Strictness {
    /// The row is left out and reported.
    #[default]
    LeaveOut,
    /// The whole file is refused, and nothing is written.
    Refuse,
}

/// Bytes read at a time: enough to keep all cores busy, few enough to hold in memory.
const BLOCK: usize = 4 << 20;
/// Rows one thread cleans at a time.
const BATCH: usize = 512;

/// Cleans a file of raw rows, on all cores and in constant memory. Rows keep their order. For the formats of `input` see
/// [`jsonl::Reader`](crate::jsonl::Reader); `output` is JSON Lines.
///
/// # Errors
///
/// A file that cannot be read or written, and a line that is not JSON: a damaged file is refused whatever `strictness` is.
/// With [`Strictness::Refuse`], also the first row that cannot be cleaned. After an error, `output` is unchanged.
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
    // The two lists alternate, so that their memory is reused.
    let (mut batches, mut done): (Vec<Batch>, Vec<Batch>) = Default::default();
    while !block.bytes.is_empty() {
        // One thread writes the previous block and reads the next while the others clean this one.
        let (moved, ()) = rayon::join(
            || write(&mut writer, &done).and_then(|()| read(&mut reader, &mut next)),
            || clean(&block, &mut batches, options, strictness),
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
        std::mem::swap(&mut batches, &mut done);
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

fn clean(block: &Block, batches: &mut Vec<Batch>, options: Options, strictness: Strictness) {
    batches.resize_with(block.rows.len().div_ceil(BATCH), Batch::default);
    let rows = block.rows.par_chunks(BATCH);
    batches.par_iter_mut().zip(rows).for_each(|(batch, rows)| {
        batch.clear();
        for (line, range) in rows {
            let row = block.bytes.get(range.clone()).unwrap_or_default();
            if let Err(stop) = batch.add(*line, row, options, strictness) {
                batch.stopped = Some((*line, stop));
                break;
            }
        }
    });
}

/// Rows cleaned by one thread.
#[derive(Default)]
struct Batch {
    lines: Vec<u8>,
    rows: u64,
    refused: Vec<(u64, Problem)>,
    counts: Counts,
    tally: Tally,
    /// The row because of which the whole file is refused.
    stopped: Option<(u64, Stop)>,
}

enum Stop {
    NotJson(serde_json::Error),
    Refused(Problem),
}

impl Batch {
    fn clear(&mut self) {
        self.lines.clear();
        self.refused.clear();
        self.rows = 0;
    }

    fn add(
        &mut self,
        line: u64,
        row: &[u8],
        options: Options,
        strictness: Strictness,
    ) -> Result<(), Stop> {
        self.tally.clear();
        if fast_path::clean(row, options, &mut self.lines, &mut self.tally).is_some() {
            self.rows += 1;
            self.counts.add(&self.tally);
            return Ok(());
        }
        let raw = serde_json::from_slice(row).map_err(Stop::NotJson)?;
        self.rows += 1;
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
