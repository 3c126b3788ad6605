//! The error type of this crate.

use std::io;
use std::path::PathBuf;

use mlx_rs::error::Exception;

use crate::config::Location;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a run cannot start, continue or be resumed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the run cannot be read.
    #[error("{}: cannot read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },

    /// The run's folder, or a file in it, cannot be created, truncated or removed.
    #[error("{}: cannot change: {source}", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },

    /// The configuration is not valid YAML.
    #[error("{location}: {message}")]
    Yaml {
        /// The file and line.
        location: Location,
        /// The parser's message.
        message: String,
    },

    /// A key that neither mlx-lm nor this crate knows. Refused because a misspelled key would
    /// otherwise train with its default.
    #[error(
        "{location}: unknown key `{key}`{}",
        closest.as_deref().map(|c| format!("; did you mean `{c}`?")).unwrap_or_default()
    )]
    UnknownKey {
        /// The file and line.
        location: Location,
        /// The key as written.
        key: String,
        /// The most similar known key.
        closest: Option<String>,
    },

    /// A key with an invalid value.
    #[error("{location}: `{key}`: expected {expected}, found {found}")]
    Setting {
        /// The file and line.
        location: Location,
        /// The dotted path of the key.
        key: String,
        /// What is valid.
        expected: String,
        /// The value in the file.
        found: String,
    },

    /// A value that JSON cannot represent.
    #[error("cannot be written as JSON: {0}")]
    Json(serde_json::Error),

    /// A data file cannot be read, or one of its lines is not a row.
    #[error(transparent)]
    Data(#[from] chat_format::Error),

    /// The model's chat template or tokenizer refused a row.
    #[error("{}:{line}: {source}", path.display())]
    Render {
        /// The data file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// The reason.
        source: Box<chat_format::Error>,
    },

    /// A data file or split without rows.
    #[error("{data}: expected at least one row, found none")]
    NoRows {
        /// The file, or the split as `valid data`.
        data: String,
    },

    /// No row of a split has a trained token: all are prompts, or cut before the first answer.
    #[error(
        "{split} data: none of {rows} rows has a token to train on within {max_length} tokens \
         (`max_seq_length`)"
    )]
    NothingToTrain {
        /// The split: `train`, `valid` or `test`.
        split: String,
        /// Rows in the split.
        rows: usize,
        /// The length the rows were cut to, in tokens.
        max_length: usize,
    },

    /// A token without an embedding: the tokenizer belongs to another model.
    #[error("row {row}: token {token} is outside the model's vocabulary of {vocabulary}")]
    TokenOutOfRange {
        /// The row, counted from 1.
        row: usize,
        /// The token.
        token: u32,
        /// The size of the model's vocabulary.
        vocabulary: usize,
    },

    /// An update's loss or gradient is infinite or NaN. The adapter was not changed.
    #[error(
        "update {step}: the {what} is {value}; its rows (counted from 1): {}",
        rows.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
    )]
    NotFinite {
        /// The update, counted from 1.
        step: u64,
        /// `loss` or `gradient`.
        what: &'static str,
        /// The loss, or the global norm of the gradients.
        value: f64,
        /// The rows with a non-finite loss, or all rows of the update if only its gradient is bad.
        rows: Vec<usize>,
    },

    /// Initial adapter weights that do not match the configuration.
    #[error("{}: `{name}`: expected {expected}, found {found}", path.display())]
    AdapterMismatch {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The shape that the configuration asks for.
        expected: String,
        /// The shape in the file.
        found: String,
    },

    /// A safetensors file that is damaged, or neither an adapter nor a checkpoint.
    #[error("{}: {what}", path.display())]
    BadTensors {
        /// The file.
        path: PathBuf,
        /// What is missing or malformed.
        what: String,
    },

    /// A line of `metrics.jsonl` that is not a record.
    #[error("{}:{line}: expected a record of a training run, found {found}", path.display())]
    Metrics {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The parser's message.
        found: String,
    },

    /// An optimizer state that belongs to other parameters or to another optimizer.
    #[error("optimizer state: `{name}`: expected {expected}, found {found}")]
    OptimizerState {
        /// The tensor, as `parameter.slot`.
        name: String,
        /// The shape and dtype that the optimizer stores.
        expected: String,
        /// The shape and dtype in the state.
        found: String,
    },

    /// A run cannot be resumed with other settings: the result would belong to neither.
    #[error(
        "{}: the run was started differently:\n{}",
        path.display(),
        differences.iter().map(|d| format!("  {d}")).collect::<Vec<_>>().join("\n")
    )]
    RunChanged {
        /// The checkpoint.
        path: PathBuf,
        /// One line per difference: `key: then -> now`.
        differences: Vec<String>,
    },

    /// The layer inputs do not fit in memory and cannot be offloaded to a file either.
    #[error("{}: cannot offload layer inputs to a file here: {source}", folder.display())]
    Offload {
        /// The folder of the file.
        folder: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },

    /// A training thread panicked; its message went to the panic hook.
    #[error("a training thread ended before its work was done")]
    LaneLost,

    /// A file of the run cannot be written.
    #[error(transparent)]
    Write(#[from] durable::Error),

    /// The model cannot be opened, or does not support what was asked.
    #[error(transparent)]
    Model(#[from] models::Error),

    /// An MLX operation failed.
    #[error("MLX: {0}")]
    Mlx(#[from] Exception),
}

impl From<mlx_rs::error::AsSliceError> for Error {
    fn from(error: mlx_rs::error::AsSliceError) -> Self {
        Self::Mlx(Exception::custom(error.to_string()))
    }
}

/// Lets `?` return this crate's errors from the closures that MLX differentiates.
impl From<Error> for Exception {
    fn from(error: Error) -> Self {
        match error {
            Error::Mlx(exception) => exception,
            other => Self::custom(other.to_string()),
        }
    }
}
