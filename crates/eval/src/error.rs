use std::path::PathBuf;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why an exam could not be read, taken, or judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the exam cannot be opened or read.
    #[error("{}: cannot read: {source}", path.display())]
    Read {
        /// The file asked for.
        path: PathBuf,
        /// The system's own reason.
        source: std::io::Error,
    },

    /// The folder of a run cannot be made.
    #[error("{}: cannot make the folder: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's own reason.
        source: std::io::Error,
    },

    /// An exam that puts nothing: batches of no case, or no seed.
    #[error("exam options: {field}: expected at least one, found none")]
    Options {
        /// The option at fault.
        field: &'static str,
    },

    /// A file is no JSON, or not the JSON that was expected.
    #[error("{}: {problem}", path.display())]
    Json {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong, with line and column where they are known.
        problem: String,
    },

    /// A policy file is no YAML, or has keys or values that no policy has.
    #[error("{}: {problem}", path.display())]
    Yaml {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong, with line and column where they are known.
        problem: String,
    },

    /// A case of a suite cannot be used: a misspelt field would silently make the exam easier.
    #[error("{}: case {case}: {field}: {problem}", path.display())]
    Case {
        /// The suite file.
        path: PathBuf,
        /// The case's id, or its place in the file while the id is unknown.
        case: String,
        /// The field at fault.
        field: String,
        /// What was expected and what was found.
        problem: String,
    },

    /// The suite as a whole cannot be used.
    #[error("{}: {problem}", path.display())]
    Suite {
        /// The suite file.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
    },

    /// A rule cannot be compiled: a bad pattern, an empty word, a range upside down.
    #[error("{field}: {problem}")]
    Rule {
        /// The field of the rule.
        field: &'static str,
        /// What was expected and what was found.
        problem: String,
    },

    /// A line of an answer log cannot be read. The last line may be torn by a kill and is dropped;
    /// any other bad line means the file was edited or damaged.
    #[error("{}: line {line}: {problem}", path.display())]
    Record {
        /// The log.
        path: PathBuf,
        /// The line, counted from one.
        line: usize,
        /// What is wrong.
        problem: String,
    },

    /// The folder holds the beginning of another exam; going on would mix the two.
    #[error("{}: holds an exam of another {what}: expected {expected}, found {found}", path.display())]
    OtherExam {
        /// The run's folder.
        path: PathBuf,
        /// The part of the manifest that differs.
        what: &'static str,
        /// What this exam would write.
        expected: String,
        /// What is on disk.
        found: String,
    },

    /// The answerer (usually the model) failed.
    #[error("no answers for the cases from {first_case:?} on: {source}")]
    Answerer {
        /// The first case of the batch that failed.
        first_case: String,
        /// The answerer's own reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The answerer broke its contract: one answer for each prompt, in order.
    #[error("the answerer gave {found} answers for {expected} prompts")]
    AnswerCount {
        /// Prompts put.
        expected: usize,
        /// Answers received.
        found: usize,
    },

    /// The judge of refusals gave no opinion: an endpoint that is not there, or answers otherwise than
    /// agreed.
    #[error("no opinion on case {case}: {source}")]
    Judge {
        /// The case it was asked about.
        case: String,
        /// The judge's own reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// Two runs cannot be compared, so no verdict on them would mean anything.
    #[error("the runs cannot be compared: {what}: expected {expected}, found {found}")]
    Incomparable {
        /// What differs.
        what: &'static str,
        /// What the comparison needs.
        expected: String,
        /// What the runs have.
        found: String,
    },

    /// A policy's figure is out of its range.
    #[error("policy: {field}: expected {expected}, found {found}")]
    Policy {
        /// The key in the policy file.
        field: String,
        /// The range allowed.
        expected: &'static str,
        /// The value found.
        found: String,
    },

    /// A statistic was asked of numbers that have none: an empty sample, NaN, lengths that differ.
    #[error("{what}: expected {expected}, found {found}")]
    Statistic {
        /// The argument at fault.
        what: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it was.
        found: String,
    },

    /// A file could not be written whole.
    #[error(transparent)]
    Durable(#[from] durable::Error),
}
