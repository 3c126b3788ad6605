use std::path::PathBuf;

use crate::Problem;

/// Errors of this crate. Those about data name the file and the line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file cannot be read to its end: an I/O error, or a corrupt or truncated compressed stream.
    #[error("{}:{line}:{column}: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The last line that could be read, from 1.
        line: u64,
        /// The column after the last byte that could be read, from 1.
        column: u64,
        /// The cause.
        source: std::io::Error,
    },
    /// A folder holds no file of rows.
    #[error("{}: expected files of rows ({expected}), found {found}", path.display())]
    NoRows {
        /// The folder.
        path: PathBuf,
        /// The endings of such files.
        expected: &'static str,
        /// What the folder holds.
        found: String,
    },
    /// A file cannot be written. The previous version is unchanged.
    #[error(transparent)]
    Write(#[from] durable::Error),
    #[cfg(feature = "tokenizers")]
    /// The model file is not a valid GGUF file.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    /// A line of a data file, or a JSON file as a whole, is not valid JSON.
    #[error("{}:{line}:{column}: expected JSON, found {found}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The column, from 1.
        column: u64,
        /// What was found.
        found: String,
    },
    /// A table (CSV or Parquet) cannot be read on.
    #[error("{}:{line}: expected a table of rows: {reason}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// The line, or the row of a Parquet file, from 1.
        line: u64,
        /// The reason.
        reason: String,
    },
    /// A row is valid JSON but not a conversation.
    #[error("{}:{line}: {problem}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with which field.
        problem: Problem,
    },
    #[cfg(feature = "tokenizers")]
    /// A model file or folder lacks a required part.
    #[error("{}: expected {expected}", path.display())]
    Missing {
        /// The model file or folder.
        path: PathBuf,
        /// The part.
        expected: &'static str,
    },
    #[cfg(feature = "tokenizers")]
    /// The tokenizer is of an unsupported kind. A similar kind would produce other tokens than the model was trained on.
    #[error("{}: `{key}` is `{found}`, supported are {supported}", path.display())]
    UnsupportedTokenizer {
        /// The model file.
        path: PathBuf,
        /// The metadata key that names the kind.
        key: &'static str,
        /// The kind.
        found: String,
        /// The supported kinds.
        supported: String,
    },
    #[cfg(feature = "tokenizers")]
    /// The tokenizer's files are invalid or contradict each other.
    #[error("{}: tokenizer: {reason}", path.display())]
    Tokenizer {
        /// The model file or folder.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    #[cfg(feature = "templates")]
    /// The model's chat template does not compile, or rejects the messages (many require that roles alternate).
    #[error("chat template: {0:#}")]
    Template(#[from] minijinja::Error),
    #[cfg(feature = "tokenizers")]
    /// An assistant's turn that is to be trained is not in the rendered text as it is in the row.
    #[error("messages[{message}]: this assistant turn cannot be trained: {reason}")]
    Turn {
        /// Which message, from 0.
        message: usize,
        /// What is wrong.
        reason: &'static str,
    },
    #[cfg(feature = "tokenizers")]
    /// The chat template changes or inspects the texts of messages, so that they cannot be found in what it writes.
    #[error("the chat template changes the texts of messages: the turns to train cannot be found")]
    MarkedRendering,
    #[cfg(feature = "tokenizers")]
    /// Plain text was encoded as a control token. The encoding prevents that; this is a final check.
    #[error("expected no control token in plain text, found `{token}` (id {id})")]
    ControlToken {
        /// The token.
        token: String,
        /// Its id.
        id: u32,
    },
    #[cfg(feature = "tokenizers")]
    /// A text spells a control sequence that the template writes as plain text, and the vocabulary has no other tokens for it.
    #[error(
        "expected texts without the template's control sequences, found {text:?}, which has no other tokens in this vocabulary"
    )]
    TextControl {
        /// The sequence.
        text: String,
    },
    #[cfg(feature = "tokenizers")]
    /// The texts use all private-use characters, so none is free to replace the characters of control tokens.
    #[error(
        "expected unused private-use characters (U+F0000 to U+10FFFD) in the texts, found too few"
    )]
    NoStandIn,
}

/// A [`Result`](std::result::Result) with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
