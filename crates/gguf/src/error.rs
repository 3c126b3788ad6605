use std::path::PathBuf;

/// What can be wrong with a GGUF file, or with what was asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The first four bytes are not `GGUF`: another kind of file.
    #[error("{}: expected a GGUF file (first bytes \"GGUF\"), found \"{}\"", path.display(), found.escape_ascii())]
    BadMagic {
        /// The file.
        path: PathBuf,
        /// Its first four bytes.
        found: [u8; 4],
    },
    /// A version of the format whose layout this crate does not know. Version 1 had other length fields; a huge number is
    /// a big-endian file.
    #[error("{}: expected GGUF version 2 or 3 (little-endian), found {found}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it states.
        found: u32,
    },
    /// The file ends before the header does, or a length points past the end.
    #[error("{}: file ends inside {what}: {needed} bytes needed at offset {offset}, {left} left", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What was being read.
        what: String,
        /// Where in the file.
        offset: u64,
        /// How many bytes it takes.
        needed: u64,
        /// How many there are.
        left: u64,
    },
    /// A count or a length that no real model comes near, so the header is damaged. Refused before reading on.
    #[error("{}: {what} is {found}, at most {limit} is believable", path.display())]
    Absurd {
        /// The file.
        path: PathBuf,
        /// Which count or length.
        what: String,
        /// What the header says.
        found: u64,
        /// The most this crate accepts.
        limit: u64,
    },
    /// A key, a tensor name or a string value is not UTF-8.
    #[error("{}: {what} at offset {offset} is not UTF-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Which string.
        what: String,
        /// Where it starts.
        offset: u64,
    },
    /// Two metadata keys or two tensors share a name, so it is unclear which one counts.
    #[error("{}: {what} `{name}` appears twice", path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// `metadata key` or `tensor`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A metadata value whose type or content is outside the format (nested arrays, which no model uses, included).
    #[error("{}: metadata key `{key}`: expected {expected}, found {found}", path.display())]
    BadValue {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What the format allows.
        expected: &'static str,
        /// What the file holds.
        found: String,
    },
    /// A tensor whose entry contradicts itself or the format: element type, shape, alignment.
    #[error("{}: tensor `{tensor}`: expected {expected}, found {found}", path.display())]
    BadTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What the format asks for.
        expected: &'static str,
        /// What the entry says.
        found: String,
    },
    /// A tensor's data does not lie inside the file: a truncated download, most often.
    #[error("{}: tensor `{tensor}` needs bytes {start}..{end}, the file has {size}", path.display())]
    OutOfFile {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// First byte.
        start: u64,
        /// One past its last byte.
        end: u64,
        /// The file's size.
        size: u64,
    },
    /// Two tensors claim the same bytes.
    #[error("{}: tensors `{first}` and `{second}` overlap", path.display())]
    Overlap {
        /// The file.
        path: PathBuf,
        /// The one that starts first.
        first: String,
        /// The one that starts inside it.
        second: String,
    },
    /// A key that was asked for is not in the file.
    #[error("{}: metadata key `{key}` is missing (expected {expected})", path.display())]
    MissingKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What the caller wanted.
        expected: &'static str,
    },
    /// A key that was asked for holds something else.
    #[error("{}: metadata key `{key}`: expected {expected}, found {found}", path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What the caller wanted.
        expected: &'static str,
        /// What the file holds.
        found: String,
    },
}

/// A result whose error is this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
