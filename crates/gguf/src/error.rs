use std::path::PathBuf;

/// Errors of reading a GGUF file. Every one names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
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
    /// An unsupported version of the format. Version 1 has other length fields; a very large number means a big-endian file.
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
    /// A count or length above the limit. Real models stay far below it, so the header is damaged.
    #[error("{}: expected {what} to be at most {limit}, found {found}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Which count or length.
        what: String,
        /// The value in the header.
        found: u64,
        /// The largest accepted value.
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
    /// Two metadata keys or two tensors have the same name.
    #[error("{}: {what} `{name}` appears twice", path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// `metadata key` or `tensor`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A metadata value whose type or content is not valid or not supported (nested arrays, which no model uses).
    #[error("{}: metadata key `{key}`: expected {expected}, found {found}", path.display())]
    BadValue {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// A tensor entry with an invalid element type, shape or alignment.
    #[error("{}: tensor `{tensor}`: expected {expected}, found {found}", path.display())]
    BadTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// A tensor's data is not inside the file, most often because a download was truncated.
    #[error("{}: tensor `{tensor}`: expected bytes {start}..{end}, found a file of {size} bytes", path.display())]
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
    /// Two tensors' data overlap.
    #[error("{}: tensors `{first}` and `{second}` overlap", path.display())]
    Overlap {
        /// The file.
        path: PathBuf,
        /// The one that starts first.
        first: String,
        /// The one that starts inside it.
        second: String,
    },
    /// A later part of a split model, where the first is expected.
    #[error("{}: expected part 1 of {count}, found part {part}; give {}", path.display(), first.display())]
    NotFirstPart {
        /// The file.
        path: PathBuf,
        /// Which part it is, from 1.
        part: u32,
        /// How many parts there are.
        count: u32,
        /// The first part by its name.
        first: PathBuf,
    },
    /// A part of a split model with another name than its number. The other parts cannot be found.
    #[error(
        "{}: expected a name that ends in {ending}, by which the other parts of the model are found, found another",
        path.display()
    )]
    PartName {
        /// The file.
        path: PathBuf,
        /// How its name must end.
        ending: String,
    },
    /// A part of a split model is not beside the first.
    #[error("{}: expected part {part} of {count} of the model, found no such file", path.display())]
    MissingPart {
        /// Where it must be.
        path: PathBuf,
        /// Which part it is, from 1.
        part: u32,
        /// How many parts there are.
        count: u32,
    },
    /// The parts of a split model contradict each other: one is of another model or incomplete.
    #[error("{}: metadata key `{key}`: expected {expected} as in the other parts, found {found}", path.display())]
    PartMismatch {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// The value that fits the other parts.
        expected: u64,
        /// The value found.
        found: u64,
    },
    /// Two parts of a split model have the same tensor.
    #[error("{}: tensor `{tensor}`: expected it in one part, found it in {} too", path.display(), other.display())]
    InTwoParts {
        /// The later part.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The earlier part.
        other: PathBuf,
    },
    /// A requested key is not in the file.
    #[error("{}: metadata key `{key}`: expected {expected}, found no such key", path.display())]
    MissingKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The requested type.
        expected: &'static str,
    },
    /// A requested key has a value of another type.
    #[error("{}: metadata key `{key}`: expected {expected}, found {found}", path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The requested type.
        expected: &'static str,
        /// What was found.
        found: String,
    },
}

/// A [`Result`](std::result::Result) with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
