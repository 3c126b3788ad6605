use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use mlx_rs::error::{AsSliceError, Exception};

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a model or an adapter could not be loaded, or an operation on them failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The path is neither a `.gguf` file nor a folder with `config.json` and safetensors files.
    #[error("{path}: expected a .gguf file, or a folder with config.json and *.safetensors")]
    NotAModel {
        /// The path.
        path: PathBuf,
    },

    /// The operation needs a folder with `config.json` and safetensors files.
    #[error("{path}: expected a folder with config.json and *.safetensors, found something else")]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },

    /// A file or folder could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },

    /// A file or folder could not be created.
    #[error("cannot write {path}: {source}")]
    Create {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },

    /// A JSON file could not be parsed.
    #[error("{path}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        source: serde_json::Error,
    },

    /// The header of a safetensors file is broken or does not match the size of the file.
    #[error("{path}: broken safetensors file: {reason}")]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },

    /// The index of a checkpoint in several files names a tensor or a file that does not exist, or a
    /// file outside its folder.
    #[error("{path}: weight_map: {tensor}: expected {expected}, found {found}")]
    Index {
        /// The index.
        path: PathBuf,
        /// The tensor whose entry is wrong.
        tensor: String,
        /// What the entry must be.
        expected: String,
        /// What it is.
        found: String,
    },

    /// A file of a checkpoint in several files is not there.
    #[error("{path}: expected this file, one of {count} of the checkpoint, found none")]
    MissingPart {
        /// The file.
        path: PathBuf,
        /// How many files its name says there are.
        count: u32,
    },

    /// Several processes of one run do not come, or stay, together.
    #[error(transparent)]
    Rank(#[from] crate::RankError),

    /// A GGUF file is broken.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),

    /// The architecture of the checkpoint is not supported.
    #[error("{path}: architecture {found:?} is not supported (supported: {supported})")]
    UnsupportedArchitecture {
        /// The file that names the architecture.
        path: PathBuf,
        /// The name found there.
        found: String,
        /// The supported names.
        supported: String,
    },

    /// A value of the configuration is not supported.
    #[error("{path}: {key}: expected {expected}, found {found}")]
    Config {
        /// The file that holds the configuration.
        path: PathBuf,
        /// The key.
        key: String,
        /// The supported values.
        expected: String,
        /// The value in the file.
        found: String,
    },

    /// The tensors of a file do not match the configuration.
    #[error("{path}: the tensors do not fit the model:{differences}")]
    Tensors {
        /// The checkpoint or adapter.
        path: PathBuf,
        /// Every tensor that is missing, unexpected or of another shape.
        differences: Box<Differences>,
    },

    /// A weight is infinite or NaN, which would make every output NaN.
    #[error("{path}: {tensor}: expected finite numbers, found {found} at position {position}")]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its index in the part of the tensor that was read.
        position: usize,
        /// The value.
        found: f32,
    },

    /// An adapter does not fit the model, or its updates do not fit together.
    #[error("the adapter does not fit: {reason}")]
    Adapter {
        /// What was expected and what was found.
        reason: String,
    },

    /// A token id is not in the vocabulary.
    #[error(
        "token {token} at position {position}: expected an id below the vocabulary size {vocab_size}"
    )]
    Token {
        /// The id.
        token: u32,
        /// Its index in the sequence.
        position: usize,
        /// The size of the vocabulary.
        vocab_size: usize,
    },

    /// An argument or environment variable has an invalid value.
    #[error("{name}: expected {expected}, found {found}")]
    Argument {
        /// Its name.
        name: &'static str,
        /// The valid values.
        expected: String,
        /// Its value.
        found: String,
    },

    /// A file could not be written, or not be read for its digest.
    #[error(transparent)]
    Write(#[from] durable::Error),

    /// An operation of MLX failed.
    #[error("MLX: {0}")]
    Mlx(#[from] Exception),
}

impl From<AsSliceError> for Error {
    fn from(error: AsSliceError) -> Self {
        Self::Mlx(Exception::custom(error.to_string()))
    }
}

/// For `?` in closures that MLX differentiates.
impl From<Error> for Exception {
    fn from(error: Error) -> Self {
        match error {
            Error::Mlx(exception) => exception,
            other => Exception::custom(other.to_string()),
        }
    }
}

/// All differences between the tensors of a file and those expected.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Differences {
    /// Names of tensors that are expected and absent.
    pub missing: Vec<String>,
    /// Names of tensors that are present and not expected.
    pub unexpected: Vec<String>,
    /// Tensors of another shape or type: name, expected, found.
    pub mismatched: Vec<(String, String, String)>,
    /// Tensors that two files have, or one file under two names: name and files.
    pub doubled: Vec<(String, PathBuf, PathBuf)>,
}

impl Differences {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        let Self { missing, unexpected, mismatched, doubled } = self;
        missing.is_empty() && unexpected.is_empty() && mismatched.is_empty() && doubled.is_empty()
    }

    /// `Err` with these differences unless there are none.
    pub(crate) fn into_result(self, path: &std::path::Path) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        Err(Error::Tensors { path: path.to_path_buf(), differences: Box::new(self) })
    }

    /// One line for each pair of files with the same tensors.
    fn doubled_lines(&self) -> Vec<String> {
        let mut pairs = BTreeMap::<_, Vec<&str>>::new();
        for (name, first, second) in &self.doubled {
            pairs.entry([first, second]).or_default().push(name);
        }
        let line = |(files, names): ([&PathBuf; 2], Vec<&str>)| {
            let [first, second] = files.map(|path| {
                path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
            });
            let example = names.first().copied().unwrap_or_default();
            let count = names.len();
            match first == second {
                true => format!(
                    "{first}: expected each tensor once, found {count} under two names, such as {example}"
                ),
                false => format!(
                    "{first} and {second}: expected each tensor in one file, found {count} in both, such as \
                     {example}; move one file away"
                ),
            }
        };
        pairs.into_iter().map(line).collect()
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The file of another model differs everywhere: the first few lines suffice.
        const SHOWN: usize = 6;
        let mut lines = self.doubled_lines();
        lines.extend(self.missing.iter().map(|name| format!("missing {name}")));
        lines.extend(self.unexpected.iter().map(|name| format!("unexpected {name}")));
        lines.extend(
            self.mismatched.iter().map(|(name, expected, found)| {
                format!("{name}: expected {expected}, found {found}")
            }),
        );
        for line in lines.iter().take(SHOWN) {
            write!(f, "\n  {line}")?;
        }
        if lines.len() > SHOWN {
            write!(f, "\n  and {} more", lines.len() - SHOWN)?;
        }
        Ok(())
    }
}
