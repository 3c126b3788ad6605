//! Everything that can go wrong between a configuration and a trained adapter.

use std::io;
use std::path::PathBuf;

use mlx_rs::error::Exception;

use crate::config::Place;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a run cannot start, go on, or be resumed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the run cannot be read.
    #[error("{}: cannot read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's own reason.
        source: io::Error,
    },

    /// The run's folder, or a file in it, cannot be made, cut or removed.
    #[error("{}: cannot change: {source}", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// The system's own reason.
        source: io::Error,
    },

    /// The configuration is no YAML.
    #[error("{place}: {message}")]
    Yaml {
        /// The file and line.
        place: Place,
        /// The parser's own words.
        message: String,
    },

    /// A key that neither mlx-lm nor we know: most often a slip of the keyboard, which would
    /// otherwise train a night long with a default.
    #[error(
        "{place}: unknown key `{key}`{}",
        closest.as_deref().map(|c| format!("; did you mean `{c}`?")).unwrap_or_default()
    )]
    UnknownKey {
        /// The file and line.
        place: Place,
        /// The key as it is written.
        key: String,
        /// The known key it resembles most.
        closest: Option<String>,
    },

    /// A key that holds something no run can be made of.
    #[error("{place}: `{key}`: expected {expected}, found {found}")]
    Setting {
        /// The file and line.
        place: Place,
        /// The dotted path of the key.
        key: String,
        /// What would be right.
        expected: String,
        /// What is there.
        found: String,
    },

    /// Tensors that safetensors refuses to write.
    #[error("tensors cannot be written: {0}")]
    Encode(safetensors::SafeTensorError),

    /// A value that has no JSON form.
    #[error("cannot be written as JSON: {0}")]
    Json(serde_json::Error),

    /// A data file cannot be read, or has a line that is no row.
    #[error(transparent)]
    Data(#[from] chat_format::Error),

    /// A row that the model's chat template or tokenizer refuses.
    #[error("{}:{line}: {source}", path.display())]
    Render {
        /// The data file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// The refusal.
        source: Box<chat_format::Error>,
    },

    /// No row of a split has a trained token: all prompts, or all cut before the first answer.
    #[error(
        "{split} data: none of {rows} rows has a token to train on within {max_length} tokens \
         (`max_seq_length`)"
    )]
    NothingToTrain {
        /// Which split.
        split: String,
        /// How many rows it has.
        rows: usize,
        /// The limit they were cut to.
        max_length: usize,
    },

    /// A token that the model has no embedding for: the tokenizer is another model's.
    #[error("row {row}: token {token} is outside the model's vocabulary of {vocabulary}")]
    TokenOutOfRange {
        /// The row, counted from 1.
        row: usize,
        /// The token.
        token: u32,
        /// How many tokens the model knows.
        vocabulary: usize,
    },

    /// An update's loss or gradient is infinite or not a number; the adapter is as it was before.
    #[error(
        "update {step}: the {what} is {value}; its rows (counted from 1): {}",
        rows.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
    )]
    NotFinite {
        /// The update, counted from 1.
        step: u64,
        /// The loss or the gradient.
        what: &'static str,
        /// What it came to.
        value: f64,
        /// The rows that took part: those of the micro-batches at fault where they are known.
        rows: Vec<usize>,
    },

    /// Adapter weights to start from that do not fit the configuration.
    #[error("{}: `{name}`: expected {expected}, found {found}", path.display())]
    AdapterMismatch {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What the configuration asks for.
        expected: String,
        /// What the file has.
        found: String,
    },

    /// A file of tensors that is damaged, or is no adapter or checkpoint of ours.
    #[error("{}: {what}", path.display())]
    BadTensors {
        /// The file.
        path: PathBuf,
        /// What is missing or malformed in it.
        what: String,
    },

    /// An optimizer state that was written for other parameters or by another rule.
    #[error("optimizer state: `{name}`: expected {expected}, found {found}")]
    OptimizerState {
        /// The tensor, as `parameter.slot`.
        name: String,
        /// What the rule keeps of the parameter.
        expected: String,
        /// What the state has.
        found: String,
    },

    /// An interrupted run cannot go on under other settings: its result would be neither run's.
    #[error(
        "{}: the run was started differently:\n{}",
        path.display(),
        differences.iter().map(|d| format!("  {d}")).collect::<Vec<_>>().join("\n")
    )]
    RunChanged {
        /// The checkpoint.
        path: PathBuf,
        /// `key: then -> now`, one per difference.
        differences: Vec<String>,
    },

    /// The inputs of layers do not fit the memory and cannot be kept in a file either.
    #[error("{}: cannot keep the inputs of layers there: {source}", folder.display())]
    Spill {
        /// The folder of the file.
        folder: PathBuf,
        /// The system's own reason.
        source: io::Error,
    },

    /// A lane ended before its work did; its own message went to the panic hook.
    #[error("a training thread ended before its work was done")]
    LaneLost,

    /// A file of the run cannot be written.
    #[error(transparent)]
    Write(#[from] durable::Error),

    /// The model cannot be used as asked.
    #[error(transparent)]
    Model(#[from] models::Error),

    /// MLX refused an operation.
    #[error("MLX: {0}")]
    Mlx(#[from] Exception),
}

impl From<mlx_rs::error::AsSliceError> for Error {
    fn from(error: mlx_rs::error::AsSliceError) -> Self {
        Self::Mlx(Exception::custom(error.to_string()))
    }
}

/// Lets `?` carry this crate's errors through the functions that MLX differentiates.
impl From<Error> for Exception {
    fn from(error: Error) -> Self {
        match error {
            Error::Mlx(exception) => exception,
            other => Self::custom(other.to_string()),
        }
    }
}
