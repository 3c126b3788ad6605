use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::inputs::{Skipped, shown};
use crate::jsonl::Place;
use crate::{Problem, family};

/// The shape in which a row stores its conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Shape {
    /// `messages`: `role` and `content`, OpenAI's tool calls included.
    Messages,
    /// `conversations`: `from` and `value`, as in ShareGPT; `conversation`: `role` and `content`, as in LMSYS-Chat.
    Conversations,
    /// `instruction`, `input`, `output`, as in Alpaca.
    Alpaca,
    /// `prompt` and `completion`.
    PromptCompletion,
    /// `question` and `answer`, and other names of the two.
    QuestionAnswer,
    /// `text`: one marked-up conversation.
    Text,
    /// `request` and `response`, as servers log them.
    Log,
    /// An export of Open WebUI.
    OpenWebUi,
    /// A conversation of LM Studio.
    LmStudio,
    /// An export of ChatGPT.
    ChatGpt,
    /// An export of Claude.
    Claude,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Shape::Messages => "messages",
            Shape::Conversations => "conversations",
            Shape::Alpaca => "instruction and output",
            Shape::PromptCompletion => "prompt and completion",
            Shape::QuestionAnswer => "question and answer",
            Shape::Text => "text",
            Shape::Log => "request and response",
            Shape::OpenWebUi => "an export of Open WebUI",
            Shape::LmStudio => "a conversation of LM Studio",
            Shape::ChatGpt => "an export of ChatGPT",
            Shape::Claude => "an export of Claude",
        })
    }
}

/// Counts of what cleaning changed in one row or in many.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Notes {
    /// Rows by shape.
    pub shapes: BTreeMap<Shape, u64>,
    /// Texts that held a whole conversation, by family of their markup.
    pub families: BTreeMap<&'static str, u64>,
    /// Control tokens that were the row's markup and were removed, by token.
    pub removed: BTreeMap<&'static str, u64>,
    /// Control tokens that messages spell as text, by token. They stay, and are never encoded as control tokens.
    pub spelled: BTreeMap<&'static str, u64>,
    /// Keys of messages and of their parts that have no place in a clean row and were left out, by path.
    pub ignored: BTreeMap<String, u64>,
    /// Personal data replaced by placeholders, by placeholder.
    pub scrubbed: BTreeMap<&'static str, u64>,
    /// Blocks of reasoning found.
    pub reasoning: u64,
    /// Blocks of reasoning that were never closed.
    pub unclosed_reasoning: u64,
    /// Answers with a closing token of reasoning but no opening one. They stay as they are.
    pub unopened_reasoning: u64,
    /// Turns that were never closed.
    pub unclosed_turns: u64,
    /// System turns without words, which were left out.
    pub empty_system_turns: u64,
}

impl Notes {
    pub(super) fn add(&mut self, other: Notes) {
        add_counts(&mut self.shapes, other.shapes);
        add_counts(&mut self.families, other.families);
        add_counts(&mut self.removed, other.removed);
        add_counts(&mut self.spelled, other.spelled);
        add_counts(&mut self.ignored, other.ignored);
        add_counts(&mut self.scrubbed, other.scrubbed);
        self.reasoning += other.reasoning;
        self.unclosed_reasoning += other.unclosed_reasoning;
        self.unopened_reasoning += other.unopened_reasoning;
        self.unclosed_turns += other.unclosed_turns;
        self.empty_system_turns += other.empty_system_turns;
    }
}

/// [`Notes`] being counted, with control tokens by their index in the table.
#[derive(Debug, Default)]
pub(super) struct Counts {
    notes: Notes,
    removed: Vec<u64>,
    spelled: Vec<u64>,
}

impl Counts {
    /// Adds the events of a row.
    pub(super) fn add(&mut self, tally: &Tally) {
        let notes = &mut self.notes;
        for event in &tally.0 {
            match event {
                Event::Shape(shape) => *notes.shapes.entry(*shape).or_default() += 1,
                Event::Family(name) => *notes.families.entry(name).or_default() += 1,
                Event::Removed(id) => count(&mut self.removed, *id),
                Event::Spelled(id) => count(&mut self.spelled, *id),
                Event::Ignored(path) => *notes.ignored.entry(path.clone()).or_default() += 1,
                Event::Scrubbed(kind) => {
                    *notes.scrubbed.entry(kind).or_default() += 1;
                }
                Event::Reasoning => notes.reasoning += 1,
                Event::UnclosedReasoning => notes.unclosed_reasoning += 1,
                Event::UnopenedReasoning => notes.unopened_reasoning += 1,
                Event::UnclosedTurn => notes.unclosed_turns += 1,
                Event::EmptySystemTurn => notes.empty_system_turns += 1,
            }
        }
    }
}

fn count(counts: &mut Vec<u64>, id: usize) {
    match counts.get_mut(id) {
        Some(count) => *count += 1,
        None => {
            counts.resize(family::all().len().max(id), 0);
            counts.insert(id, 1);
        }
    }
}

impl From<Counts> for Notes {
    fn from(counts: Counts) -> Self {
        let by_token = |counts: Vec<u64>| {
            let counts = family::all().iter().zip(counts).filter(|(_, count)| *count > 0);
            counts.map(|(mark, count)| (mark.literal, count)).collect()
        };
        let (removed, spelled) = (by_token(counts.removed), by_token(counts.spelled));
        Notes { removed, spelled, ..counts.notes }
    }
}

/// The events of a row while it is cleaned. They are counted only once the row is complete.
#[derive(Debug, Default)]
pub(super) struct Tally(Vec<Event>);

/// One change to a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Shape(Shape),
    Family(&'static str),
    /// A control token was removed; its index in the table.
    Removed(usize),
    /// A control token stays as text; its index in the table.
    Spelled(usize),
    /// A key was left out; its path.
    Ignored(String),
    /// Personal data was replaced.
    Scrubbed(&'static str),
    Reasoning,
    UnclosedReasoning,
    UnopenedReasoning,
    UnclosedTurn,
    EmptySystemTurn,
}

impl Tally {
    pub(super) fn append(&mut self, mut other: Tally) {
        self.0.append(&mut other.0);
    }

    pub(super) fn note(&mut self, event: Event) {
        self.0.push(event);
    }

    /// The family of the row's markup: of its conversation, or else of the first token removed.
    pub(super) fn family(&self) -> Option<&'static str> {
        let whole = self.0.iter().find_map(|event| match event {
            Event::Family(name) => Some(*name),
            _ => None,
        });
        let stray = || {
            let mut removed = self.0.iter().filter_map(|event| match event {
                Event::Removed(id) => family::all().get(*id),
                _ => None,
            });
            removed.next().map(|mark| family::FAMILIES[mark.family].name)
        };
        whole.or_else(stray)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

fn add_counts<K: Ord>(sum: &mut BTreeMap<K, u64>, more: BTreeMap<K, u64>) {
    for (key, count) in more {
        *sum.entry(key).or_default() += count;
    }
}

/// A row that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Refusal {
    /// The file that it is in.
    #[serde(serialize_with = "shown")]
    pub file: PathBuf,
    /// Its line, from 1.
    pub line: u64,
    /// The field that it is refused for; empty for the row itself.
    pub field: String,
    /// The reason, with the field.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { file, line, reason, .. } = self;
        write!(f, "{}:{line}: {reason}", file.display())
    }
}

/// A file that was read, and the numbers of its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FileReport {
    /// The file.
    #[serde(serialize_with = "shown")]
    pub file: PathBuf,
    /// Rows read.
    pub rows: u64,
    /// Rows written.
    pub written: u64,
    /// Rows left out.
    pub refused: u64,
    /// Rows merged into longer ones.
    pub merged: u64,
}

/// A row that is the beginning of a longer one, and was merged into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Merge {
    /// The file of the row.
    #[serde(serialize_with = "shown")]
    pub file: PathBuf,
    /// Its line, from 1.
    pub line: u64,
    /// Which element of an array it is, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub element: Option<u64>,
    /// The file of the longer row.
    #[serde(serialize_with = "shown")]
    pub into_file: PathBuf,
    /// The line of the longer row, from 1.
    pub into_line: u64,
    /// Which element of an array the longer row is, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub into_element: Option<u64>,
}

impl fmt::Display for Merge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = Place { line: self.line, element: self.element };
        let into = Place { line: self.into_line, element: self.into_element };
        write!(f, "{}:{row} into {}:{into}", self.file.display(), self.into_file.display())
    }
}

/// Entries of a list in a report; more are only counted.
const LISTED: usize = 100;

/// The result of cleaning files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Rows read.
    pub rows: u64,
    /// Rows written.
    pub written: u64,
    /// Rows left out.
    pub refused: u64,
    /// The first hundred of the rows left out.
    pub refusals: Vec<Refusal>,
    /// Rows merged into longer ones that they are the beginning of.
    pub merged: u64,
    /// The first hundred of the rows merged.
    pub merges: Vec<Merge>,
    /// The files, in the order in which they were read.
    pub files: Vec<FileReport>,
    /// Files and folders among the inputs that were not read.
    pub skipped: Vec<Skipped>,
    /// What was changed in the rows written.
    #[serde(flatten)]
    pub notes: Notes,
}

impl Report {
    /// Starts the next file.
    pub(super) fn open(&mut self, file: &Path) {
        self.files.push(FileReport {
            file: file.to_owned(),
            rows: 0,
            written: 0,
            refused: 0,
            merged: 0,
        });
    }

    /// Counts rows of the file last opened.
    pub(super) fn count(&mut self, rows: u64, refused: u64) {
        let written = rows - refused;
        self.rows += rows;
        self.written += written;
        self.refused += refused;
        if let Some(file) = self.files.last_mut() {
            file.rows += rows;
            file.written += written;
            file.refused += refused;
        }
    }

    /// Lists a row that is left out.
    pub(super) fn list(&mut self, file: &Path, line: u64, problem: &Problem) {
        if self.refusals.len() < LISTED {
            let (field, reason) = (problem.field.clone(), problem.to_string());
            self.refusals.push(Refusal { file: file.to_owned(), line, field, reason });
        }
    }

    /// Counts a row that was merged into another, by their files (as indices) and places.
    pub(super) fn merge(&mut self, row: (usize, Place), into: (usize, Place)) {
        self.merged += 1;
        self.written -= 1;
        if let Some(file) = self.files.get_mut(row.0) {
            file.merged += 1;
            file.written -= 1;
        }
        let path = |index: usize| self.files.get(index).map(|file| file.file.clone());
        if self.merges.len() < LISTED
            && let (Some(file), Some(into_file)) = (path(row.0), path(into.0))
        {
            let Place { line, element } = row.1;
            let Place { line: into_line, element: into_element } = into.1;
            self.merges.push(Merge { file, line, element, into_file, into_line, into_element });
        }
    }

    /// The share of the rows that were left out, from 0 to 1.
    pub fn refused_share(&self) -> f64 {
        if self.rows == 0 { 0.0 } else { self.refused as f64 / self.rows as f64 }
    }
}
