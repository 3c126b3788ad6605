use std::io;
use std::path::{Path, PathBuf};

use lora_train::Bytes;

use crate::format;
use crate::stages::StageName;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a night, a registry call or a schedule failed. Messages name the file, what was expected and
/// what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is not YAML, has an unknown key, or a value of the wrong type.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// What is wrong, with line and key where the parser knows them.
        reason: String,
    },

    /// Another process holds the home's lock.
    #[error("{}: this home is in use by {holder}; wait for it to end, or use another --home", path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// The holder's process id and start time, as it wrote them.
        holder: String,
    },

    /// A file or folder of the home cannot be created, read or listed.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The failed action, as a verb phrase.
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },

    /// A file of the home cannot be parsed: a journal line, the registry, a stage's result.
    #[error("{}{}: expected {expected}, found {found}", path.display(), at(*line))]
    Record {
        /// The file.
        path: PathBuf,
        /// The line, counted from one, in files of lines.
        line: Option<usize>,
        /// The expected content.
        expected: &'static str,
        /// The content found, or the parser's message.
        found: String,
    },

    /// The content of a file or adapter does not match its recorded digest.
    #[error("{}: the content has changed: expected SHA-256 {expected}, found {found}", path.display())]
    Corrupt {
        /// The file or adapter folder.
        path: PathBuf,
        /// The recorded digest.
        expected: durable::Digest,
        /// The digest of the current content.
        found: durable::Digest,
    },

    /// The registry has no such adapter.
    #[error("{}: no adapter {wanted:?}; the registry holds: {held}", path.display())]
    UnknownAdapter {
        /// The registry file.
        path: PathBuf,
        /// The alias, digest or prefix that was asked for.
        wanted: String,
        /// The adapters of the registry.
        held: String,
    },

    /// The registry has no such base model, or several.
    #[error(
        "{}: expected the name, path or digest of one base model (--base), found {wanted}; the registry has {held}",
        path.display()
    )]
    UnknownBase {
        /// The registry file.
        path: PathBuf,
        /// The name, path or digest that was asked for.
        wanted: String,
        /// The base models of the registry.
        held: String,
    },

    /// An adapter was trained on another base model.
    #[error("{}: expected an adapter of {expected}, found that {adapter} was trained on {found}", path.display())]
    OtherBase {
        /// The registry file.
        path: PathBuf,
        /// The adapter.
        adapter: durable::Digest,
        /// The base model that it should serve on.
        expected: String,
        /// The one that it was trained on.
        found: String,
    },

    /// Rollback while the base model serves.
    #[error("{}: nothing to roll back: the base model serves", path.display())]
    NothingToRollBack {
        /// The registry file.
        path: PathBuf,
    },

    /// The server cannot be paused, started again or asked.
    #[error("{0}")]
    Server(String),

    /// The time of the night ran out before the stage had a result, so that there is nothing to examine. The night is over;
    /// the next start begins another one, which goes on where this one was.
    #[error(
        "the budget of {budget} ran out during {stage}, before there was an adapter to examine"
    )]
    BudgetSpent {
        /// The stage that was stopped.
        stage: StageName,
        /// The budget, as configured.
        budget: String,
    },

    /// A start after `budgets.not_after`. No night is begun.
    #[error(
        "budgets.not_after: expected a start within twelve hours before {not_after}, found {now}; no night is begun"
    )]
    TooLate {
        /// The local time of day at which nights end.
        not_after: String,
        /// The local time.
        now: String,
    },

    /// Training used more memory than the machine has or the budget allows. The night retries with
    /// a plan that needs less.
    #[error("out of memory: {reason}")]
    OutOfMemory {
        /// The memory used and allowed, or the allocator's message.
        reason: String,
    },

    /// The disk has less free space than `budgets.disk`. The night's progress is saved.
    #[error(
        "{}: expected at least {} free (`budgets.disk`), found {} free; make room and start again",
        path.display(), format::bytes(required.0), format::bytes(free.0)
    )]
    DiskFull {
        /// The home.
        path: PathBuf,
        /// The free space found.
        free: Bytes,
        /// The free space required.
        required: Bytes,
    },

    /// A signal asked the night to stop. The next start resumes from the last checkpoint.
    #[error("stopped by {}; the progress is saved, start again to resume", signal_name(*signal))]
    Interrupted {
        /// The signal's number.
        signal: u8,
    },

    /// A promotion by hand while the champion is pinned.
    #[error("{}: the champion is pinned ({reason}); unpin it first", path.display())]
    Pinned {
        /// The registry file.
        path: PathBuf,
        /// The reason given when it was pinned.
        reason: String,
    },

    /// A folder of sealed exams has none that was not used yet.
    #[error("{}: expected a sealed exam (*.json) that no night has used, found {found}; add suites that nobody has \
             seen, or remove exam.fresh from the configuration: then the standing exam decides alone", folder.display())]
    SealedExams {
        /// The folder.
        folder: PathBuf,
        /// What it has.
        found: String,
    },

    /// The operating system gives no random numbers.
    #[error("expected random numbers from the operating system, found none: {reason}")]
    Randomness {
        /// The system's message.
        reason: String,
    },

    /// `launchctl`, `systemctl` or `id` failed.
    #[error("`{command}`: {reason}")]
    Schedule {
        /// The command that was run.
        command: String,
        /// Its output, or why it could not be started.
        reason: String,
    },

    /// The raw rows cannot be read or converted.
    #[error(transparent)]
    Chat(#[from] chat_format::Error),

    /// The training set cannot be built.
    #[error(transparent)]
    Enrich(#[from] enrich::Error),

    /// The model cannot be opened or run.
    #[error(transparent)]
    Models(#[from] models::Error),

    /// Training cannot start or continue.
    #[error(transparent)]
    Train(#[from] lora_train::Error),

    /// The suite or an exam run cannot be used.
    #[error(transparent)]
    Eval(#[from] eval::Error),

    /// The demo model cannot be fetched.
    #[error(transparent)]
    Fetch(#[from] fetch::Error),

    /// A file cannot be written or hashed.
    #[error(transparent)]
    Durable(#[from] durable::Error),

    /// An HTML report cannot be rendered.
    #[error("the report cannot be rendered: {0}")]
    Report(#[from] minijinja::Error),
}

impl Error {
    /// The exit code for a program that fails with this error: 3 for a spent budget (time, memory,
    /// disk), 128 and the signal's number after a signal, else 2.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::BudgetSpent { .. }
            | Error::TooLate { .. }
            | Error::OutOfMemory { .. }
            | Error::DiskFull { .. } => 3,
            Error::Interrupted { signal } => signal.saturating_add(128),
            _ => 2,
        }
    }

    /// What failed, in words that quote nothing of the error: for notifications, which leave the machine.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::Config { .. } => "the configuration, or what it names, is invalid",
            Error::Busy { .. } => "the home is in use by another process",
            Error::Io { .. } => "a file or folder of the home cannot be used",
            Error::Record { .. } => "a file, or a row of it, cannot be read",
            Error::Corrupt { .. } => "a file or adapter has changed",
            Error::UnknownAdapter { .. } => "the registry has no such adapter",
            Error::UnknownBase { .. } => "the registry has no such base model",
            Error::OtherBase { .. } => "the adapter is of another base model",
            Error::Interrupted { .. } => "a signal stopped it",
            Error::NothingToRollBack { .. } => "there is nothing to roll back",
            Error::Server(_) => "the server cannot be paused, started again or asked",
            Error::BudgetSpent { .. } => "the time budget is spent",
            Error::TooLate { .. } => "it is too late for a night",
            Error::OutOfMemory { .. } => "out of memory",
            Error::DiskFull { .. } => "the disk is full",
            Error::Pinned { .. } => "the champion is pinned",
            Error::SealedExams { .. } => "no sealed exam is left",
            Error::Randomness { .. } => "the operating system gives no random numbers",
            Error::Schedule { .. } => "the schedule cannot be read or changed",
            Error::Chat(_) => "the rows cannot be read",
            Error::Enrich(_) => "the training set cannot be built",
            Error::Models(_) => "the model cannot be opened or run",
            Error::Train(_) => "training cannot start or continue",
            Error::Eval(_) => "the exam cannot be taken",
            Error::Fetch(_) => "the demo model cannot be fetched",
            Error::Durable(_) => "a file cannot be written",
            Error::Report(_) => "the report cannot be rendered",
        }
    }

    /// Whether an error of loading or running an adapter comes from its settings or tensors, and not from the machine.
    pub(crate) fn is_of_adapter(&self) -> bool {
        let of_model = |error: &models::Error| {
            use models::Error as E;
            !matches!(error, E::Read { .. } | E::Create { .. } | E::Write(_) | E::Mlx(_))
        };
        match self {
            Error::Models(error) => of_model(error),
            Error::Eval(eval::Error::Answerer { source, .. }) => {
                source.downcast_ref::<models::Error>().is_some_and(of_model)
            }
            _ => false,
        }
    }

    /// Whether a plan that needs less memory could succeed.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        let of_model = |error: &models::Error| match error {
            models::Error::Mlx(e) => is_allocation_failure(e.what()),
            _ => false,
        };
        match self {
            Error::OutOfMemory { .. } => true,
            Error::Train(lora_train::Error::Mlx(e)) => is_allocation_failure(e.what()),
            Error::Models(e) | Error::Train(lora_train::Error::Model(e)) => of_model(e),
            // An exam passes on what the model that answers says.
            Error::Eval(eval::Error::Answerer { source, .. }) => {
                source.downcast_ref().is_some_and(of_model)
            }
            _ => false,
        }
    }
}

/// MLX has a single error type, so only the message tells an allocation failure.
fn is_allocation_failure(message: &str) -> bool {
    let what = message.to_lowercase();
    what.contains("allocat") || what.contains("out of memory")
}

/// Converts an `io::Error` into an [`Error::Io`] with path and action.
pub(crate) fn io_error(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io { path, action, source }
}

fn signal_name(signal: u8) -> String {
    match signal {
        2 => "SIGINT".to_owned(),
        15 => "SIGTERM".to_owned(),
        other => format!("signal {other}"),
    }
}

fn at(line: Option<usize>) -> String {
    line.map(|line| format!(":{line}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use mlx_rs::error::Exception;

    use super::*;

    /// What a notification says is all that somebody away from the machine knows.
    #[test]
    fn every_class_is_in_the_page_about_trouble() {
        let source = include_str!("error.rs");
        let (_, kinds) = source.split_once("pub fn kind(&self)").unwrap();
        let (kinds, _) = kinds.split_once("\n    }\n").unwrap();
        let arms = kinds.matches("Error::").count();
        let kinds: Vec<_> = kinds.split('"').skip(1).step_by(2).collect();
        assert_eq!(kinds.len(), arms, "{kinds:?}");
        let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/trouble.md");
        let guide = std::fs::read_to_string(guide).unwrap();
        let (_, classes) = guide.split_once("## Classes of errors").unwrap();
        let (classes, _) = classes.split_once("## Messages").unwrap();
        let rows =
            classes.lines().filter_map(|line| Some(line.strip_prefix("| ")?.split_once(" |")?.0));
        let told: Vec<_> = rows.flat_map(|row| row.split(", the registry")).collect();
        for kind in kinds {
            let short = kind.trim_start_matches("the registry");
            assert!(told.contains(&kind) || told.contains(&short), "{kind}");
        }
    }

    #[test]
    fn allocation_failures_are_recognized_by_their_message() {
        for (message, expected) in [
            ("[malloc] Unable to allocate 68719476736 bytes.", true),
            ("[metal::malloc] Attempting to allocate 1 bytes which is greater than 0", true),
            ("cudaMallocAsync(&buf, size, stream) failed: out of memory", true),
            ("[matmul] Last dimension of first input must match", false),
        ] {
            let error = Error::Train(lora_train::Error::Mlx(Exception::custom(message)));
            assert_eq!(error.is_out_of_memory(), expected, "{message}");
            let source = Box::new(models::Error::Mlx(Exception::custom(message)));
            let error = Error::Eval(eval::Error::Answerer { first_case: "a".into(), source });
            assert_eq!(error.is_out_of_memory(), expected, "{message} in an exam");
        }
        let spent = Error::BudgetSpent { stage: StageName::Train, budget: "6h".into() };
        assert!(!spent.is_out_of_memory(), "a spent time budget is not a memory failure");
    }
}
