use std::fmt;
use std::path::PathBuf;

use mlx_rs::error::Exception;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a model or an adapter could not be loaded, or an operation on them not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The path is neither a `.gguf` file nor a folder with `config.json` and safetensors.
    #[error(
        "{path} is no model: expected a .gguf file, or a folder with config.json and *.safetensors"
    )]
    NotAModel {
        /// What was given.
        path: PathBuf,
    },

    /// Only the weights of a folder can be changed: a `.gguf` file would have to be converted too.
    #[error("{path}: expected a folder with config.json and *.safetensors, found something else")]
    NotAFolder {
        /// What was given.
        path: PathBuf,
    },

    /// A file or folder could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// A file or folder could not be made.
    #[error("cannot write {path}: {source}")]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// A JSON file does not have the form it must have.
    #[error("{path}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        source: serde_json::Error,
    },

    /// The header of a safetensors file is broken, or promises more than the file holds.
    #[error("{path}: broken safetensors file: {reason}")]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The index of a checkpoint in several files promises what is not there, or names a file that is
    /// not its to name.
    #[error("{path}: weight_map: {tensor}: expected {expected}, found {found}")]
    Index {
        /// The index.
        path: PathBuf,
        /// The tensor whose entry is wrong.
        tensor: String,
        /// What the entry should name.
        expected: String,
        /// What it names, or what is there.
        found: String,
    },

    /// A GGUF file is broken; found before MLX reads it, which would trust the file.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),

    /// The checkpoint is of an architecture this crate has no layers for.
    #[error("{path}: architecture {found:?} is not supported (supported: {supported})")]
    UnsupportedArchitecture {
        /// The file that names the architecture.
        path: PathBuf,
        /// The name found there.
        found: String,
        /// The names that would have been accepted.
        supported: String,
    },

    /// The configuration asks for something that the layers here would compute wrongly.
    #[error("{path}: {key}: expected {expected}, found {found}")]
    Config {
        /// The file that holds the configuration.
        path: PathBuf,
        /// The key in it.
        key: String,
        /// What this crate can do.
        expected: String,
        /// What the file says.
        found: String,
    },

    /// The tensors of a file are not those that the configuration calls for.
    #[error("{path}: the tensors do not fit the model:{differences}")]
    Tensors {
        /// The checkpoint or adapter.
        path: PathBuf,
        /// Every tensor that is missing, unexpected or of another shape.
        differences: Differences,
    },

    /// A weight is infinite or not a number; with it, nothing that is computed would be one.
    #[error("{path}: {tensor}: expected numbers, found {found} at position {position}")]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its place in what was read of the tensor.
        position: usize,
        /// What stands there.
        found: f32,
    },

    /// An adapter was made for another model, or its parts disagree.
    #[error("the adapter does not fit: {reason}")]
    Adapter {
        /// What was expected and what was found.
        reason: String,
    },

    /// A token id lies beyond the model's vocabulary.
    #[error("token {token} at position {position}: the model's vocabulary ends at {vocab_size}")]
    Token {
        /// The id.
        token: u32,
        /// Its place in the sequence.
        position: usize,
        /// The size of the vocabulary.
        vocab_size: usize,
    },

    /// An argument makes no sense.
    #[error("{name}: expected {expected}, found {found}")]
    Argument {
        /// The argument.
        name: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What was given.
        found: String,
    },

    /// A file could not be written whole.
    #[error(transparent)]
    Write(#[from] durable::Error),

    /// MLX refused an operation.
    #[error("MLX: {0}")]
    Mlx(#[from] Exception),
}

/// Lets `?` carry this crate's errors through the closures that MLX differentiates.
impl From<Error> for Exception {
    fn from(error: Error) -> Self {
        match error {
            Error::Mlx(exception) => exception,
            other => Exception::custom(other.to_string()),
        }
    }
}

/// How the tensors of a file differ from those expected, all of them, so that one look suffices.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Differences {
    /// Expected and absent.
    pub missing: Vec<String>,
    /// Present and not expected.
    pub unexpected: Vec<String>,
    /// Present in another shape or type: name, expected, found.
    pub mismatched: Vec<(String, String, String)>,
}

impl Differences {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.mismatched.is_empty()
    }

    /// `Err` with these differences unless there are none.
    pub(crate) fn into_result(self, path: &std::path::Path) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        Err(Error::Tensors { path: path.to_path_buf(), differences: self })
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// A wrong file differs everywhere; the first few lines tell as much as all of them.
        const SHOWN: usize = 6;
        let lines = (self.missing.iter().map(|name| format!("missing {name}")))
            .chain(self.unexpected.iter().map(|name| format!("unexpected {name}")))
            .chain(self.mismatched.iter().map(|(name, expected, found)| {
                format!("{name}: expected {expected}, found {found}")
            }));
        let total = self.missing.len() + self.unexpected.len() + self.mismatched.len();
        for line in lines.take(SHOWN) {
            write!(f, "\n  {line}")?;
        }
        if total > SHOWN {
            write!(f, "\n  and {} more", total - SHOWN)?;
        }
        Ok(())
    }
}
