//! Finds the files to convert among files and folders.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use serde::{Serialize, Serializer};
use walkdir::{DirEntry, WalkDir};

use crate::{Error, Result};

/// The files to convert, in order, and what was passed over in the folders among them.
///
/// The order is that of the paths given; inside a folder, files and folders come by name, byte by byte, whatever the order
/// of the file system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Inputs {
    /// The files, in the order in which they are converted.
    pub files: Vec<InputFile>,
    /// What is not converted, with the reason.
    pub skipped: Vec<Skipped>,
}

/// A file of rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InputFile {
    /// Where it is: as it was given, or under the folder that was given.
    #[serde(serialize_with = "shown")]
    pub path: PathBuf,
    /// How its rows are stored.
    pub format: Format,
    /// Whether it was found in a folder, not given by its path.
    #[serde(skip)]
    in_folder: bool,
}

/// How a file stores its rows. JSON and CSV may be compressed with gzip or zstd; Parquet compresses its columns itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Format {
    /// JSON: one row a line, objects of several lines, or an array (`.jsonl`, `.ndjson`, `.json`).
    Json,
    /// A table with a header, separated by commas, semicolons or tabs (`.csv`, `.tsv`). Its values are texts.
    Csv,
    /// A table of Apache Parquet (`.parquet`). It is read with the feature `parquet`.
    Parquet,
}

impl Format {
    /// The format that a file name ends with. A second ending of `.gz` or `.zst` may follow.
    fn of_name(path: &Path) -> Option<Format> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let plain = [".gz", ".zst", ".zstd"].iter().find_map(|ending| name.strip_suffix(ending));
        match plain.unwrap_or(&name).rsplit_once('.')?.1 {
            "json" | "jsonl" | "ndjson" => Some(Format::Json),
            "csv" | "tsv" => Some(Format::Csv),
            "parquet" if plain.is_none() => Some(Format::Parquet),
            _ => None,
        }
    }

    const ENDINGS: &str = ".jsonl, .ndjson, .json, .csv or .tsv, also with .gz or .zst; .parquet";
}

/// A file or folder that is not converted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Skipped {
    /// Where it is. Of a folder, nothing is converted.
    #[serde(serialize_with = "shown")]
    pub path: PathBuf,
    /// Why it is not converted.
    pub reason: SkipReason,
}

/// Why a file or folder is not converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SkipReason {
    /// Its name begins with a full stop, as those of `.DS_Store`, `._rows.jsonl` and `.git`.
    Hidden,
    /// The ending of its name is that of no format.
    UnknownEnding,
    /// It is a link to a folder that it is in.
    LinkLoop,
    /// It is a pipe, a socket or a device.
    NotAFile,
    /// The same file, or a link to it, comes before.
    Repeated,
    /// The rows are written to it: it is the result of an earlier conversion.
    Output,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            SkipReason::Hidden => "hidden",
            SkipReason::UnknownEnding => "no known ending",
            SkipReason::LinkLoop => "a link to a folder that it is in",
            SkipReason::NotAFile => "not a regular file",
            SkipReason::Repeated => "listed before",
            SkipReason::Output => "the output",
        })
    }
}

impl Inputs {
    /// Finds the files of rows among paths of files and folders. Folders are searched to any depth, and links are followed.
    ///
    /// A file that is given by its path is converted whatever its name. In folders, hidden files and files with an unknown
    /// ending are passed over, and listed in [`Inputs::skipped`].
    ///
    /// # Errors
    ///
    /// A path that does not exist or cannot be read, a broken link in a folder, and a folder without any file of rows.
    pub fn find<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Self> {
        let mut search = Search::default();
        for path in paths {
            let path = path.as_ref();
            let kind = std::fs::metadata(path).map_err(|source| io_error(path, source))?;
            if kind.is_dir() {
                search.folder(path)?;
            } else {
                let format = Format::of_name(path).unwrap_or(Format::Json);
                search.add(InputFile { path: path.to_owned(), format, in_folder: false });
            }
        }
        Ok(search.found)
    }

    /// Skips the files of folders that the rows are written to.
    pub(super) fn without(mut self, outputs: &[&Path]) -> Self {
        let outputs: Vec<PathBuf> =
            outputs.iter().filter_map(|path| std::fs::canonicalize(path).ok()).collect();
        let is_output = |file: &InputFile| {
            let path = std::fs::canonicalize(&file.path);
            file.in_folder && path.is_ok_and(|path| outputs.contains(&path))
        };
        let (skipped, files) = self.files.into_iter().partition(is_output);
        let skip = |file: InputFile| Skipped { path: file.path, reason: SkipReason::Output };
        let skipped: Vec<InputFile> = skipped;
        self.skipped.extend(skipped.into_iter().map(skip));
        Inputs { files, skipped: self.skipped }
    }
}

#[derive(Default)]
struct Search {
    found: Inputs,
    /// Where the files are once links are resolved.
    resolved: HashSet<PathBuf>,
}

impl Search {
    fn folder(&mut self, folder: &Path) -> Result<()> {
        let before = (self.found.files.len(), self.found.skipped.len());
        let walk = WalkDir::new(folder).min_depth(1).follow_links(true).sort_by_file_name();
        let mut entries = walk.into_iter();
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) if is_hidden(entry.file_name()) => {
                    if entry.file_type().is_dir() {
                        entries.skip_current_dir();
                    }
                    self.skip(entry.path(), SkipReason::Hidden);
                }
                Ok(entry) => self.entry(&entry),
                Err(error) => self.failed(folder, error)?,
            }
        }
        let skipped = self.found.skipped.get(before.1..).unwrap_or_default();
        let listed = skipped.iter().any(|skipped| skipped.reason == SkipReason::Repeated);
        if self.found.files.len() == before.0 && !listed {
            let (path, found) = (folder.to_owned(), list(folder, skipped));
            return Err(Error::NoRows { path, expected: Format::ENDINGS, found });
        }
        Ok(())
    }

    fn entry(&mut self, entry: &DirEntry) {
        let (path, kind) = (entry.path(), entry.file_type());
        match Format::of_name(path) {
            _ if kind.is_dir() => {}
            _ if !kind.is_file() => self.skip(path, SkipReason::NotAFile),
            None => self.skip(path, SkipReason::UnknownEnding),
            Some(format) => {
                self.add(InputFile { path: path.to_owned(), format, in_folder: true });
            }
        }
    }

    /// Notes an entry that cannot be followed. A hidden one need not be.
    fn failed(&mut self, folder: &Path, error: walkdir::Error) -> Result<()> {
        let path = error.path().unwrap_or(folder).to_owned();
        if error.depth() > 0 && path.file_name().is_some_and(is_hidden) {
            self.skip(&path, SkipReason::Hidden);
        } else if error.loop_ancestor().is_some() {
            self.skip(&path, SkipReason::LinkLoop);
        } else {
            return Err(io_error(&path, error.into()));
        }
        Ok(())
    }

    fn add(&mut self, file: InputFile) {
        // A pipe has no place that links could be resolved to.
        let resolved = std::fs::canonicalize(&file.path).unwrap_or_else(|_| file.path.clone());
        if self.resolved.insert(resolved) {
            self.found.files.push(file);
        } else {
            self.skip(&file.path, SkipReason::Repeated);
        }
    }

    fn skip(&mut self, path: &Path, reason: SkipReason) {
        self.found.skipped.push(Skipped { path: path.to_owned(), reason });
    }
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io { path: path.to_owned(), source }
}

/// What a folder without rows holds.
fn list(folder: &Path, skipped: &[Skipped]) -> String {
    const LISTED: usize = 3;
    if skipped.is_empty() {
        return "an empty folder".to_owned();
    }
    let name = |skipped: &Skipped| {
        let name = skipped.path.strip_prefix(folder).unwrap_or(&skipped.path);
        format!("{:?} ({})", name.to_string_lossy(), skipped.reason)
    };
    let names: Vec<String> = skipped.iter().take(LISTED).map(name).collect();
    let more = match skipped.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", names.join(", "))
}

/// Writes a path as text, whatever its bytes.
pub(super) fn shown<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}
