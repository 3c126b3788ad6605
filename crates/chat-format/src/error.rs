use std::path::PathBuf;

use crate::Problem;

/// What can go wrong between a file of chats and a row of tokens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file cannot be read to its end: a device fails, or compressed text is damaged or cut short.
    #[error("{}:{line}:{column}: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line that could be read last, from 1.
        line: u64,
        /// The column behind what could be read of it, from 1.
        column: u64,
        /// What is wrong.
        source: std::io::Error,
    },
    /// A file cannot be written; the one that was there before is untouched.
    #[error(transparent)]
    Write(#[from] durable::Error),
    #[cfg(feature = "tokenizers")]
    /// The model file is not a sound GGUF.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    /// A line, or a whole file where `line` counts inside it, is not JSON.
    #[error("{}:{line}:{column}: expected JSON: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The column, from 1.
        column: u64,
        /// What the parser said.
        reason: String,
    },
    /// A row is JSON but not a chat.
    #[error("{}:{line}: {problem}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// Which field, what it should be and what it is.
        problem: Problem,
    },
    #[cfg(feature = "tokenizers")]
    /// A model directory lacks a part.
    #[error("{}: expected {expected}", path.display())]
    Missing {
        /// The model file or folder.
        path: PathBuf,
        /// The part.
        expected: &'static str,
    },
    #[cfg(feature = "tokenizers")]
    /// A tokenizer of a kind this crate does not build; guessing would give other tokens than the model was trained on.
    #[error("{}: `{key}` is `{found}`, supported are {supported}", path.display())]
    UnsupportedTokenizer {
        /// The model file.
        path: PathBuf,
        /// The metadata key that names the kind.
        key: &'static str,
        /// The kind.
        found: String,
        /// The ones that work.
        supported: String,
    },
    #[cfg(feature = "tokenizers")]
    /// The tokenizer's parts contradict each other.
    #[error("{}: tokenizer: {reason}", path.display())]
    Tokenizer {
        /// The model file or folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    #[cfg(feature = "templates")]
    /// The model's chat template does not compile, or refuses the messages (most templates insist on some order of roles).
    #[error("chat template: {0:#}")]
    Template(#[from] minijinja::Error),
    #[cfg(feature = "tokenizers")]
    /// Plain text came out of the tokenizer as a control token. Never expected: a last check behind the construction.
    #[error("the tokenizer turned plain text into the control token `{token}` ({id})")]
    ControlToken {
        /// The token.
        token: String,
        /// Its id.
        id: u32,
    },
    #[cfg(feature = "tokenizers")]
    /// A text uses every private-use character there is, so none is left to stand in for the control tokens' characters.
    #[error("a text uses all private-use characters; expected at least a few to be free")]
    NoStandIn,
}

/// A result whose error is this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
