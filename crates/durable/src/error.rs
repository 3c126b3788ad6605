use std::io;
use std::path::{Path, PathBuf};

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a file could not be written or read whole. Every variant names the file the caller asked
/// for, never the temporary one behind it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder is missing, read-only or full, or the file cannot be read.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file the caller named.
        path: PathBuf,
        /// What was being done, as a verb phrase ("write", "replace the old file", ...).
        action: &'static str,
        /// The system's own reason.
        source: io::Error,
    },

    /// The value has no JSON form (a map with keys that are no strings, a failing `Serialize`).
    #[error("{}: the value cannot be written as JSON: {source}", path.display())]
    Json {
        /// The file the caller named.
        path: PathBuf,
        /// The serializer's own reason.
        source: serde_json::Error,
    },

    /// A log takes one record a line; a line break inside one would make two of it.
    #[error("{}: a log record must be one line, found a line break at byte {at}", path.display())]
    LineBreak {
        /// The log the caller named.
        path: PathBuf,
        /// Offset of the first line break in the record.
        at: usize,
    },
}

impl Error {
    /// The file that the failed call was about.
    pub fn path(&self) -> &Path {
        match self {
            Error::Io { path, .. } | Error::Json { path, .. } | Error::LineBreak { path, .. } => {
                path
            }
        }
    }
}

/// Turns an `io::Error` into an [`Error::Io`] that names file and action.
pub(crate) fn io_error(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io { path, action, source }
}
