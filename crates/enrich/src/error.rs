use std::path::PathBuf;

/// What can go wrong between a data file and a data set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A YAML file does not have the form it should: syntax, an unknown field, a wrong type.
    #[error("{}{}: {problem}", path.display(), place.map(|(l, c)| format!(":{l}:{c}")).unwrap_or_default())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// The line and column, both from 1, where the parser knows them.
        place: Option<(u64, u64)>,
        /// The field and what is wrong with it.
        problem: String,
    },
    /// A data file is well formed, but one of its entries makes no sense beside the others.
    #[error("{}: {entry}: expected {expected}, found {found}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The entry, such as `facts.guest-vlan`.
        entry: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A template asks for something that its place does not provide.
    #[error("template {template:?}: expected a slot among {known}, found {{{slot}}}")]
    Slot {
        /// The template.
        template: String,
        /// The slot it names.
        slot: String,
        /// The slots that there are.
        known: String,
    },
    /// More rows were asked for than the household can give without repeating itself.
    #[error("rows: expected at most {available} from these facts, found {asked}")]
    TooManyRows {
        /// How many were asked for.
        asked: usize,
        /// How many distinct ones there are.
        available: usize,
    },
    /// A file is not an exam suite.
    #[error("{}: expected an exam suite: {source}", path.display())]
    Suite {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        source: serde_json::Error,
    },
    /// A file of prompts does not have the form that its authors publish.
    #[error("{}:{line}:{column}: expected {expected}, found {found}", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The column, from 1.
        column: u64,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The configuration names no file to start from.
    #[error("inputs: expected at least one file of clean conversations, found none")]
    NoInputs,
    /// Nothing is left to learn from.
    #[error("expected at least one row, found none: {read} came in, {left_out} were left out")]
    Empty {
        /// Rows that came in.
        read: usize,
        /// Rows left out as duplicates or leaks.
        left_out: usize,
    },
    /// A file of conversations could not be read or written; the error names file and line.
    #[error(transparent)]
    Chat(#[from] chat_format::Error),
    /// A file could not be written; the error names it.
    #[error(transparent)]
    Write(#[from] durable::Error),
}

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
