use std::io;
use std::path::{Path, PathBuf};

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a file could not be read or written. Every variant names the file the caller named, not the
/// temporary one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An I/O error: the folder is missing, read-only or full, or the file cannot be read.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file the caller named.
        path: PathBuf,
        /// The operation that failed, as a verb phrase ("write", "replace the old file", ...).
        action: &'static str,
        /// The cause.
        source: io::Error,
    },

    /// The value cannot be represented as JSON (a map with keys other than strings, a failing `Serialize`).
    #[error("{}: the value cannot be written as JSON: {source}", path.display())]
    Json {
        /// The file the caller named.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },

    /// A log record contains a line break. A log has one record a line.
    #[error("{}: expected a log record of one line, found a line break at byte {at}", path.display())]
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
