use std::path::PathBuf;

/// Why a data set could not be built or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A YAML file is not of the expected form: syntax, an unknown field, a wrong type.
    #[error("{}{}: {problem}", path.display(), place.map(|(l, c)| format!(":{l}:{c}")).unwrap_or_default())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// The line and column, both from 1, if known.
        place: Option<(u64, u64)>,
        /// The field and what is wrong with it.
        problem: String,
    },
    /// An entry of a data file is invalid.
    #[error("{}: {entry}: expected {expected}, found {found}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The entry, such as `facts.guest-vlan`.
        entry: String,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A template has a slot that is not available where it is used.
    #[error("template {template:?}: expected a slot among {known}, found {{{slot}}}")]
    Slot {
        /// The template.
        template: String,
        /// The slot it names.
        slot: String,
        /// The available slots.
        known: String,
    },
    /// More rows were requested than the household gives without near duplicates.
    #[error("rows: expected at most {available} from these facts, found {asked}")]
    TooManyRows {
        /// How many were requested.
        asked: usize,
        /// How many there are.
        available: usize,
    },
    /// A file is not a suite.
    #[error("{}: expected an exam suite: {source}", path.display())]
    Suite {
        /// The file.
        path: PathBuf,
        /// The parser's error, with line and column.
        source: serde_json::Error,
    },
    /// A file of prompts is not of the form in which it is published.
    #[error("{}:{line}:{column}: expected {expected}, found {found}", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The column, from 1.
        column: u64,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The configuration names no input file.
    #[error("inputs: expected at least one file of clean conversations, found none")]
    NoInputs,
    /// No row is left.
    #[error("expected at least one row, found none: {read} were read, {left_out} were left out")]
    Empty {
        /// Rows read.
        read: usize,
        /// Rows left out as duplicates or leaks.
        left_out: usize,
    },
    /// A pair could not be written as JSON.
    #[error("{}: {source}", path.display())]
    Pair {
        /// The file.
        path: PathBuf,
        /// The serializer's error.
        source: serde_json::Error,
    },
    /// A council or a generated suite is invalid; the error names file and entry.
    #[error(transparent)]
    Eval(#[from] eval::Error),
    /// A file of conversations could not be read or written; the error names file and line.
    #[error(transparent)]
    Chat(#[from] chat_format::Error),
    /// A file could not be written; the error names it.
    #[error(transparent)]
    Write(#[from] durable::Error),
}

impl Error {
    /// The error with the file that an invalid entry is in and its name there, if it was found after the file was read.
    pub(crate) fn in_file(self, file: &std::path::Path, entry: &str) -> Self {
        match self {
            Error::Entry { expected, found, .. } => {
                Error::Entry { path: file.to_path_buf(), entry: entry.to_owned(), expected, found }
            }
            other => other,
        }
    }
}

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
