use std::path::PathBuf;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a suite, council, policy or run could not be read, taken or compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be opened or read.
    #[error("{}: cannot read: {source}", path.display())]
    Read {
        /// The file asked for.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },

    /// The folder of a run cannot be created.
    #[error("{}: cannot create the folder: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },

    /// Exam options that ask nothing: a batch size of 0, or no seed.
    #[error("exam options: {field}: expected at least one, found none")]
    Options {
        /// The option at fault.
        field: &'static str,
    },

    /// A file is not JSON, or not of the expected form.
    #[error("{}: {problem}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where known.
        problem: String,
    },

    /// A policy or council file is not YAML, or has unknown keys or values.
    #[error("{}: {problem}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where known.
        problem: String,
    },

    /// An entry of a council file is invalid.
    #[error("{}: {entry}: expected {expected}, found {found}", path.display())]
    Council {
        /// The council file.
        path: PathBuf,
        /// The entry, such as `agents.windu`.
        entry: String,
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },

    /// A case of a suite is invalid.
    #[error("{}: case {case}: {field}: {problem}", path.display())]
    Case {
        /// The suite file.
        path: PathBuf,
        /// The case's id, or its number in the file if it has none.
        case: String,
        /// The field.
        field: String,
        /// What was expected and what was found.
        problem: String,
    },

    /// The suite as a whole is invalid.
    #[error("{}: {problem}", path.display())]
    Suite {
        /// The suite file.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
    },

    /// A rule is invalid: a bad pattern, an empty word, an empty range.
    #[error("{field}: {problem}")]
    Rule {
        /// The field of the rule.
        field: &'static str,
        /// What was expected and what was found.
        problem: String,
    },

    /// A line of an answer log cannot be parsed, which means that the file was edited or damaged. (An incomplete last line
    /// is dropped without an error.)
    #[error("{}: line {line}: {problem}", path.display())]
    Record {
        /// The log.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },

    /// The folder holds the beginning of another exam; continuing would mix the two.
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
    #[error("no answers for the batch of cases that starts at {first_case:?}: {source}")]
    Answerer {
        /// The first case of the batch that failed.
        first_case: String,
        /// The answerer's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The answerer did not give one answer per prompt.
    #[error("the answerer gave {found} answers for {expected} prompts")]
    AnswerCount {
        /// The number of prompts.
        expected: usize,
        /// The number of answers.
        found: usize,
    },

    /// A [`StanceJudge`](crate::exam::StanceJudge) failed, for example because its endpoint did not answer.
    #[error("no opinion on case {case}: {source}")]
    Judge {
        /// The case it was asked about.
        case: String,
        /// The judge's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// Two runs cannot be compared.
    #[error("the runs cannot be compared: {what}: expected {expected}, found {found}")]
    Incomparable {
        /// What differs.
        what: &'static str,
        /// What the comparison needs.
        expected: String,
        /// What the runs have.
        found: String,
    },

    /// A policy has a figure out of its range, or a category that the council does not have.
    #[error("policy: {field}: {problem}")]
    Policy {
        /// The key in the policy file.
        field: &'static str,
        /// What was expected and what was found.
        problem: String,
    },

    /// A statistic is undefined for its arguments: an empty sample, NaN, lengths that differ.
    #[error("{what}: expected {expected}, found {found}")]
    Statistic {
        /// The argument.
        what: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it was.
        found: String,
    },

    /// The files of a model cannot be listed.
    #[cfg(feature = "model")]
    #[error(transparent)]
    Model(#[from] models::Error),

    /// A file could not be written.
    #[error(transparent)]
    Durable(#[from] durable::Error),
}
