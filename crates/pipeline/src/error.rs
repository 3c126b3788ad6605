use std::io;
use std::path::{Path, PathBuf};

use lora_train::Bytes;

use crate::report::words;
use crate::stage::StageName;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a night could not go on. Each variant names the file, and what was expected and found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is not YAML, has an unknown key, or a value of the wrong kind.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// What is wrong, with line and key where the parser knows them.
        reason: String,
    },

    /// Another process holds the lock: two nights in one home would train over each other.
    #[error("{}: this home is in use by {holder}; wait for it to end, or use another --home", path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, as written by the holder: process id and since when.
        holder: String,
    },

    /// A file or folder of the home cannot be made, read or listed.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done, as a verb phrase.
        action: &'static str,
        /// The system's own reason.
        source: io::Error,
    },

    /// A record of ours does not read back: a journal line, the registry, a stage's result.
    #[error("{}{}: expected {expected}, found {found}", path.display(), at(*line))]
    Record {
        /// The file.
        path: PathBuf,
        /// The line within it, counted from one, for files of lines.
        line: Option<usize>,
        /// What should stand there.
        expected: &'static str,
        /// What stands there, or the parser's reason.
        found: String,
    },

    /// A file no longer has the content it was registered with; it must not serve.
    #[error("{}: the content has changed: expected SHA-256 {expected}, found {found}", path.display())]
    Corrupt {
        /// The file or adapter folder.
        path: PathBuf,
        /// The digest on record.
        expected: durable::Digest,
        /// The digest of what is there now.
        found: durable::Digest,
    },

    /// The registry does not hold the adapter that was asked for.
    #[error("{}: no adapter {wanted:?}; the registry holds: {held}", path.display())]
    UnknownAdapter {
        /// The registry file.
        path: PathBuf,
        /// The alias, digest or prefix that was asked for.
        wanted: String,
        /// What could have been asked for.
        held: String,
    },

    /// There has never been a promotion, so there is nothing to go back to.
    #[error("{}: nothing to roll back: no adapter was ever promoted here", path.display())]
    NothingToRollBack {
        /// The registry file.
        path: PathBuf,
    },

    /// The wall-clock budget ran out. What is done is on disk: the next start goes on from there.
    #[error("the budget of {budget} ran out during {stage}; start again to go on from there")]
    BudgetSpent {
        /// The stage that was cut short.
        stage: StageName,
        /// The budget, as configured.
        budget: String,
    },

    /// Training took more memory than there is, or than the budget allows. The next plan needs less.
    #[error("out of memory: {why}")]
    OutOfMemory {
        /// What was used and what was allowed, or the allocator's own words.
        why: String,
    },

    /// The disk has less room than `budgets.disk` keeps free. What is done is on it.
    #[error(
        "{}: {} free, expected {} to spare (`budgets.disk`); make room and start again",
        path.display(), words::bytes(free.0), words::bytes(spare.0)
    )]
    DiskFull {
        /// The home.
        path: PathBuf,
        /// What is free.
        free: Bytes,
        /// What has to be.
        spare: Bytes,
    },

    /// The champion was pinned by hand: it stays until somebody unpins it.
    #[error("{}: the champion is pinned ({reason}); unpin it first", path.display())]
    Pinned {
        /// The registry file.
        path: PathBuf,
        /// Why it was pinned.
        reason: String,
    },

    /// The system's own program for scheduled jobs failed.
    #[error("`{command}`: {reason}")]
    Schedule {
        /// The command that was run.
        command: String,
        /// What it said.
        reason: String,
    },

    /// The raw rows cannot be read or converted.
    #[error(transparent)]
    Chat(#[from] chat_format::Error),

    /// The dataset cannot be made from the rows.
    #[error(transparent)]
    Enrich(#[from] enrich::Error),

    /// The model cannot be opened or run.
    #[error(transparent)]
    Models(#[from] models::Error),

    /// Training cannot start or go on.
    #[error(transparent)]
    Train(#[from] lora_train::Error),

    /// The exam or its suite is unusable.
    #[error(transparent)]
    Eval(#[from] eval::Error),

    /// The demo model cannot be fetched.
    #[error(transparent)]
    Fetch(#[from] fetch::Error),

    /// A file cannot be written or hashed.
    #[error(transparent)]
    Durable(#[from] durable::Error),

    /// The report's template and the page's data do not fit.
    #[error("the report cannot be rendered: {0}")]
    Report(#[from] minijinja::Error),
}

impl Error {
    /// The exit code of a program that stops on this error: 3 for a spent budget, else 2.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::BudgetSpent { .. } | Error::OutOfMemory { .. } | Error::DiskFull { .. } => 3,
            _ => 2,
        }
    }

    /// Whether a plan that needs less memory could get further.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        match self {
            Error::OutOfMemory { .. } => true,
            // MLX has one kind of error; its allocators all speak of allocating, CUDA of memory.
            Error::Train(lora_train::Error::Mlx(e)) | Error::Models(models::Error::Mlx(e)) => {
                let what = e.what().to_lowercase();
                what.contains("allocat") || what.contains("out of memory")
            }
            _ => false,
        }
    }
}

/// Turns an `io::Error` into an [`Error::Io`] that names file and action.
pub(crate) fn io_error(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io { path, action, source }
}

fn at(line: Option<usize>) -> String {
    line.map(|line| format!(":{line}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use mlx_rs::error::Exception;

    use super::*;

    #[test]
    fn an_allocator_that_gives_up_is_known_by_its_words() {
        for (words, is) in [
            ("[malloc] Unable to allocate 68719476736 bytes.", true),
            ("[metal::malloc] Attempting to allocate 1 bytes which is greater than 0", true),
            ("cudaMallocAsync(&buf, size, stream) failed: out of memory", true),
            ("[matmul] Last dimension of first input must match", false),
        ] {
            let error = Error::Train(lora_train::Error::Mlx(Exception::custom(words)));
            assert_eq!(error.is_out_of_memory(), is, "{words}");
        }
        let spent = Error::BudgetSpent { stage: StageName::Train, budget: "6h".into() };
        assert!(!spent.is_out_of_memory(), "a budget stop is never blamed on memory");
    }
}
