use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::file_rows::FileRows;
use super::grown::{Digests, Held, List};
use super::refused::SetAside;
use super::report::{Counts, Tally};
use super::{Clean, InputFile, Inputs, Options, Report, fast_path, shape, sources};
use crate::jsonl::{Block, BlockRow, Place, Writer, not_json};
use crate::raw::Raw;
use crate::{Error, Problem, Result, json};

/// What happens when a row cannot be cleaned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Strictness {
    /// The row is left out and reported, a line that is not JSON included.
    #[default]
    LeaveOut,
    /// The whole file is refused, and nothing is written.
    Refuse,
}

/// Bytes read at a time: enough to keep all cores busy, few enough to hold in memory.
const BLOCK: usize = 4 << 20;
/// Rows one thread cleans at a time.
const BATCH: usize = 256;

/// Cleans a file of raw rows: see [`Converter`], which can also keep the rows that are left out.
///
/// # Errors
///
/// Those of [`Converter::convert`].
pub fn convert(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    options: Options,
    strictness: Strictness,
) -> Result<Report> {
    Converter::new(options).strictness(strictness).convert(input, output)
}

/// Cleans files of raw rows, on all cores and in constant memory. Rows keep their order.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Converter {
    options: Options,
    strictness: Strictness,
    refused: Option<PathBuf>,
    /// Keys that rows of one conversation have the same values under, if grown rows are merged.
    merge: Option<Vec<String>>,
    merged: Option<PathBuf>,
    /// The folder below which the files of rows are named, if rows name theirs.
    sources: Option<PathBuf>,
}

impl Converter {
    /// A converter that leaves out rows that cannot be cleaned.
    pub fn new(options: Options) -> Self {
        Converter { options, ..Converter::default() }
    }

    /// Sets what happens when a row cannot be cleaned.
    pub fn strictness(self, strictness: Strictness) -> Self {
        Converter { strictness, ..self }
    }

    /// Writes the rows that are left out to a file of JSON Lines, each with `file`, `line`, `field`, `reason`, and its
    /// original bytes as `text`, or as `base64` if they are not UTF-8. The file is written whether there are any or not.
    pub fn refused(self, path: impl Into<PathBuf>) -> Self {
        Converter { refused: Some(path.into()), ..self }
    }

    /// Merges a row into a longer one that begins with the same messages, as logs hold that are written with every turn:
    /// only the longest is written. Rows are compared once they are clean, to the letter, with their tools and their values
    /// under the keys `same` (those that tell conversations apart, like the agent's name). Rows of equal length stay.
    ///
    /// The [report](Report) counts and lists the merged rows. The longer row may come last, so memory is no longer constant: 18
    /// bytes a message and 56 bytes a row.
    pub fn merge_grown<K: Into<String>>(self, same: impl IntoIterator<Item = K>) -> Self {
        Converter { merge: Some(same.into_iter().map(Into::into).collect()), ..self }
    }

    /// Writes the rows that are merged into longer ones to a file of JSON Lines, each with `file`, `line`, `into_file` and
    /// `into_line`; a row of an array also with `element`, or `into_element`, from 0. The file is written whether there are
    /// any or not.
    pub fn merged(self, path: impl Into<PathBuf>) -> Self {
        Converter { merged: Some(path.into()), ..self }
    }

    /// Every clean row names the file and line that it is from under the key [`SOURCE_ROW`](super::SOURCE_ROW). Files below
    /// the folder `base` are named by their path in it, there and in the lists of refused and merged rows.
    pub fn sources(self, base: impl Into<PathBuf>) -> Self {
        Converter { sources: Some(base.into()), ..self }
    }

    /// Cleans a file, or the files of a folder, as [`Converter::convert_all`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Inputs::find`] and of [`Converter::convert_all`].
    pub fn convert(&self, input: impl AsRef<Path>, output: impl AsRef<Path>) -> Result<Report> {
        self.convert_all(Inputs::find([input])?, output)
    }

    /// Cleans files one after the other and writes the rows of all to one output of JSON Lines. For the formats of the
    /// inputs see [`Format`](super::Format). A file of a folder that is the output, or the file of
    /// refused or merged rows, is skipped.
    ///
    /// ```no_run
    /// use chat_format::clean::{Converter, Inputs, Options};
    ///
    /// let inputs = Inputs::find(["logs", "exports/chats.json"])?;
    /// let report = Converter::new(Options::default()).convert_all(inputs, "clean.jsonl")?;
    /// for skipped in &report.skipped {
    ///     println!("{}: {}", skipped.path.display(), skipped.reason);
    /// }
    /// # Ok::<(), chat_format::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A file that cannot be read or written, and a row longer than 64 MiB that is not on a line of its own. With
    /// [`Strictness::Refuse`], also the first row that is not JSON or cannot be cleaned. After an error, neither `output` nor
    /// the files of refused and merged rows are changed.
    ///
    /// An element of an array is a row like a line: one that is odd or not JSON is left out, and named by its line and its index
    /// (`[16]`). An element that is not closed ends where the next one seems to begin, and the array goes on there; at the end of
    /// a file that was cut off, the rows before are kept, and what is left of the last one is set aside. An array whose elements
    /// cannot be told apart, so that more than one might be lost, refuses the file.
    pub fn convert_all(&self, inputs: Inputs, output: impl AsRef<Path>) -> Result<Report> {
        let output = output.as_ref();
        let outputs = [Some(output), self.refused.as_deref(), self.merged.as_deref()];
        let outputs: Vec<&Path> = outputs.into_iter().flatten().collect();
        let inputs = inputs.without(&outputs);
        let mut sink = Sink {
            output,
            writer: Writer::create(output)?,
            held: self.merge.as_ref().map(|_| Held::default()),
            aside: self.refused.as_deref().map(SetAside::create).transpose()?,
            merged: self.merged.as_deref().map(Writer::create).transpose()?,
            base: self.sources.as_deref(),
            report: Report { skipped: inputs.skipped, ..Report::default() },
        };
        for input in &inputs.files {
            self.file(input, &mut sink)?;
        }
        sink.commit()
    }

    fn file(&self, input: &InputFile, sink: &mut Sink<'_>) -> Result<()> {
        let mut rows = FileRows::open(input)?;
        let input = &input.path;
        sink.report.open(input);
        let name = sources::beginning(&sources::name(input, sink.base));
        let (mut block, mut next) = (Block::default(), Block::default());
        rows.next_block(BLOCK, &mut block)?;
        // The two lists alternate, so that their memory is reused.
        let (mut batches, mut done): (Vec<Batch>, Vec<Batch>) = Default::default();
        while !(block.bytes.is_empty() && block.rows.is_empty()) {
            // One thread writes the previous block and reads the next while the others clean this one.
            let (moved, ()) = rayon::join(
                || sink.write(&done).and_then(|()| read(&mut rows, &mut next)),
                || self.clean(&block, &name, &mut batches),
            );
            moved?;
            for batch in &mut batches {
                match batch.stopped.take() {
                    None => sink.count(batch, input, &block)?,
                    Some((place, Stop::NotJson(error, found))) => {
                        return Err(not_json(input, place, &error, found));
                    }
                    Some((place, Stop::Refused(problem))) => {
                        let (path, problem) = (input.to_owned(), place.of(problem));
                        return Err(Error::Row { path, line: place.line, problem });
                    }
                }
            }
            std::mem::swap(&mut batches, &mut done);
            std::mem::swap(&mut block, &mut next);
        }
        sink.write(&done)
    }

    /// Cleans the rows of a block, on all cores. `file` is what the values of [`sources`] begin with.
    fn clean(&self, block: &Block, file: &str, batches: &mut Vec<Batch>) {
        batches.resize_with(block.rows.len().div_ceil(BATCH), Batch::default);
        let rows = block.rows.par_chunks(BATCH);
        batches.par_iter_mut().zip(rows).for_each(|(batch, rows)| {
            batch.clear();
            for BlockRow { place, range, problem } in rows {
                let row = block.bytes.get(range.clone()).unwrap_or_default();
                let added = match problem {
                    None => batch.add(file, *place, row, self),
                    Some(problem) => batch.refuse(problem),
                };
                match (added, self.strictness) {
                    (Ok(()), _) => {}
                    (Err(stop), Strictness::LeaveOut) => {
                        let (line, row) = (place.line, range.clone());
                        let problem = place.of(stop.into());
                        batch.refused.push(Refused { line, row, problem });
                    }
                    (Err(stop), Strictness::Refuse) => {
                        batch.stopped = Some((*place, stop));
                        break;
                    }
                }
            }
        });
    }
}

/// Where the rows go.
struct Sink<'o> {
    output: &'o Path,
    writer: Writer,
    /// What is known of the rows, if grown ones are merged.
    held: Option<Held>,
    /// The rows that are left out.
    aside: Option<SetAside>,
    /// The list of merged rows.
    merged: Option<Writer>,
    /// The folder below which files are named.
    base: Option<&'o Path>,
    report: Report,
}

impl Sink<'_> {
    fn write(&mut self, batches: &[Batch]) -> Result<()> {
        batches.iter().try_for_each(|batch| self.writer.write_lines(&batch.lines))
    }

    /// Reports the rows of a batch, and sets aside those that are left out.
    fn count(&mut self, batch: &mut Batch, input: &Path, block: &Block) -> Result<()> {
        self.report.count(batch.rows, batch.refused.len() as u64);
        for Refused { line, row, problem } in &batch.refused {
            self.report.list(input, *line, problem);
            if let Some(aside) = &mut self.aside {
                let row = block.bytes.get(row.clone()).unwrap_or_default();
                aside.add(&sources::name(input, self.base), *line, problem, row)?;
            }
        }
        if let Some(held) = &mut self.held {
            held.note(&batch.digests, self.report.files.len().saturating_sub(1));
        }
        self.report.notes.add(std::mem::take(&mut batch.counts).into());
        Ok(())
    }

    fn commit(mut self) -> Result<Report> {
        if let Some(held) = self.held {
            let mut list = List { merged: self.merged.as_mut(), base: self.base };
            held.finish(&mut self.writer, &mut list, &mut self.report, self.output)?;
        }
        if let Some(merged) = self.merged {
            merged.commit()?;
        }
        if let Some(aside) = self.aside {
            aside.commit()?;
        }
        self.writer.commit()?;
        Ok(self.report)
    }
}

fn read(rows: &mut FileRows, block: &mut Block) -> Result<()> {
    block.bytes.clear();
    block.rows.clear();
    rows.next_block(BLOCK, block)
}

/// Rows cleaned by one thread.
#[derive(Default)]
struct Batch {
    lines: Vec<u8>,
    rows: u64,
    refused: Vec<Refused>,
    counts: Counts,
    tally: Tally,
    /// Digests of the rows, if grown ones are merged.
    digests: Digests,
    /// The row because of which the whole file is refused.
    stopped: Option<(Place, Stop)>,
}

/// A row that is left out.
struct Refused {
    line: u64,
    /// Its bytes in the block.
    row: Range<usize>,
    problem: Problem,
}

enum Stop {
    /// The parser's error, and the reason in words.
    NotJson(serde_json::Error, String),
    Refused(Problem),
}

impl From<Stop> for Problem {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::NotJson(error, reason) => {
                Problem::new("", "JSON", format!("{reason} (column {})", error.column()))
            }
            Stop::Refused(problem) => problem,
        }
    }
}

impl Batch {
    fn clear(&mut self) {
        self.lines.clear();
        self.refused.clear();
        self.digests.clear();
        self.rows = 0;
    }

    fn refuse(&mut self, problem: &Problem) -> Result<(), Stop> {
        self.rows += 1;
        Err(Stop::Refused(problem.clone()))
    }

    fn add(
        &mut self,
        file: &str,
        place: Place,
        row: &[u8],
        converter: &Converter,
    ) -> Result<(), Stop> {
        let (options, start) = (converter.options, self.lines.len());
        self.tally.clear();
        self.rows += 1;
        if fast_path::clean(row, options, &mut self.lines, &mut self.tally).is_none() {
            let raw: Raw<'_> = serde_json::from_slice(row).map_err(|error| {
                let reason = json::reason(row, &error);
                Stop::NotJson(error, reason)
            })?;
            self.clean(raw, options)?;
        }
        if let (Some(same), Some(row)) = (&converter.merge, self.lines.get(start..)) {
            self.digests.begin(row, same);
        }
        if converter.sources.is_some()
            && let Err(error) = sources::add(&mut self.lines, start, file, place)
        {
            self.lines.truncate(start);
            return Err(Stop::NotJson(error, "a row that cannot be written".to_owned()));
        }
        if converter.merge.is_some() {
            self.digests.end(place, self.lines.len());
        }
        self.counts.add(&self.tally);
        Ok(())
    }

    fn clean(&mut self, raw: Raw<'_>, options: Options) -> Result<(), Stop> {
        let chat = shape::read(raw, &mut self.tally).map_err(Stop::Refused)?;
        let clean = Clean::new(&chat, options, &mut self.tally).map_err(Stop::Refused)?;
        let written = json::write(&mut self.lines, &clean);
        written.map_err(|error| Stop::NotJson(error, "a row that cannot be written".to_owned()))?;
        self.lines.push(b'\n');
        Ok(())
    }
}
