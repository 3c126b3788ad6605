//! Where the keys of a configuration are, for messages.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The file a configuration was read from, and the line of each key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    pub(super) file: Option<PathBuf>,
    /// By dotted path: `lora_parameters.rank`.
    pub(super) lines: BTreeMap<String, u64>,
}

impl Origin {
    /// Whether the file has this key (a dotted path).
    pub fn has(&self, key: &str) -> bool {
        self.lines.contains_key(key)
    }

    /// The file and line of this key (a dotted path), as far as they are known.
    pub fn location(&self, key: &str) -> Location {
        Location { file: self.file.clone(), line: self.lines.get(key).copied() }
    }

    /// The key on this line, or the last one above it.
    pub(super) fn key_on(&self, line: u64) -> Option<&str> {
        let above = self.lines.iter().filter(|(_, at)| **at <= line);
        above.max_by_key(|(_, at)| **at).map(|(key, _)| key.as_str())
    }
}

/// A file and a line in it. Displayed as `file:line`, or as much of that as is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Location {
    /// The file, if the configuration was read from one.
    pub file: Option<PathBuf>,
    /// The line, counted from 1, if the key is in the file.
    pub line: Option<u64>,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{}:{line}", file.display()),
            (Some(file), None) => write!(f, "{}", file.display()),
            (None, _) => f.write_str("configuration"),
        }
    }
}
