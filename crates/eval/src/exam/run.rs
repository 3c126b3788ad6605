//! Runs on disk.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::record::{Manifest, Record};
use crate::council::Council;
use crate::error::{Error, Result};

/// The file of a run's [`Manifest`] in its folder.
pub(crate) const MANIFEST: &str = "manifest.json";
/// The file of a run's [`Record`]s in its folder, one per line, in the order of the exam.
pub(crate) const RECORDS: &str = "answers.jsonl";

/// An exam taken: the manifest and every answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ExamRun {
    /// How the run was made.
    pub manifest: Manifest,
    /// Every answer, in the order of the exam.
    pub records: Vec<Record>,
}

impl ExamRun {
    /// Reads a run from its folder. An incomplete last line, left by a killed process, is dropped.
    ///
    /// # Errors
    /// If a file cannot be read or parsed, or an answer is of an agent or category that the run's council does not have.
    pub fn load(dir: impl AsRef<Path>) -> Result<ExamRun> {
        let dir = dir.as_ref();
        let path = dir.join(MANIFEST);
        let text = std::fs::read_to_string(&path)
            .map_err(|source| Error::Read { path: path.clone(), source })?;
        let manifest: Manifest = serde_json::from_str(&text)
            .map_err(|e| Error::Json { path, problem: e.to_string() })?;
        let records = read_records(&dir.join(RECORDS), &manifest.council)?;
        Ok(ExamRun { manifest, records })
    }

    /// Writes the run into a folder, which is created if missing; each file is complete or absent.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        std::fs::create_dir_all(dir)
            .map_err(|source| Error::Folder { path: dir.to_path_buf(), source })?;
        write_lines(&dir.join(RECORDS), &self.records)?;
        // The manifest is written last, so that a folder with a manifest has its answers too.
        Ok(durable::write_json(dir.join(MANIFEST), &self.manifest)?)
    }

    /// Whether every case of the suite was answered, with every seed.
    pub fn is_complete(&self) -> bool {
        self.records.len() >= self.manifest.suite.cases * self.manifest.options.seeds.len()
    }
}

/// Reads an answer log; empty if there is no file.
fn read_records(path: &Path, council: &Council) -> Result<Vec<Record>> {
    read_lines(path, |record: &Record| {
        council.check_category(&record.category).map_err(|e| format!("category: {e}"))?;
        council.check_agent(&record.agent).map_err(|e| format!("agent: {e}"))
    })
}

/// Reads a log of JSON lines; empty if there is no file. An incomplete last line, left by a killed process, is dropped.
pub(super) fn read_lines<T: DeserializeOwned>(
    path: &Path,
    check: impl Fn(&T) -> std::result::Result<(), String>,
) -> Result<Vec<T>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::Read { path: path.to_path_buf(), source }),
    };
    let mut entries = Vec::new();
    for (i, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        let Some(line) = line.strip_suffix(b"\n") else { break };
        let error = |problem| Error::Record { path: path.to_path_buf(), line: i + 1, problem };
        let entry = serde_json::from_slice(line).map_err(|e| error(e.to_string()))?;
        check(&entry).map_err(error)?;
        entries.push(entry);
    }
    Ok(entries)
}

/// Writes a log that [`read_lines`] reads.
pub(super) fn write_lines<T: Serialize>(path: &Path, entries: &[T]) -> Result<()> {
    let lines: String = entries.iter().map(|entry| to_line(entry) + "\n").collect();
    Ok(durable::write(path, lines.as_bytes())?)
}

/// One entry of a log as a line of JSON.
pub(super) fn to_line<T: Serialize>(entry: &T) -> String {
    serde_json::to_string(entry).expect("an entry is plain structs, strings and numbers")
}
