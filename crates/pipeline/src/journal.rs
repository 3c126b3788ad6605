//! The append-only record of a night, from which a restart resumes.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use durable::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Clock;
use crate::error::{Error, Result, io_error};
use crate::files::read_if_there;
use crate::stages::StageName;

/// The version of the journal's format. Other versions are refused.
const JOURNAL_VERSION: u32 = 1;

/// An entry of the journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Entry {
    /// The first entry, and another once the base model is known. Written again if the champion is changed by hand before
    /// the exam, or the night goes on with another base model.
    NightBegun {
        /// The night's id, which is also its folder's name.
        night: String,
        /// The digest of the base model; `None` if it is not known yet.
        #[serde(default)]
        base: Option<Digest>,
        /// The champion that the candidate is compared with; `None` for the base model.
        champion: Option<Digest>,
    },
    /// A stage starts on the input with this digest.
    StageBegun {
        stage: StageName,
        /// Digest of the stage's input.
        key: Digest,
    },
    /// A stage's result is on disk.
    StageFinished {
        stage: StageName,
        /// Digest of the stage's input.
        key: Digest,
        /// Duration of the run that finished it.
        seconds: f64,
        output: Value,
    },
    /// A stage failed; the next start runs it again.
    StageFailed { stage: StageName, message: String },
    /// A start failed outside the stages, such as by an input that cannot be read.
    StartFailed { message: String },
    /// The night is complete; the next start begins a new one.
    NightFinished,
    /// The night is over without a verdict, for this reason; the next start begins a new one.
    NightGivenUp { reason: String },
    /// The night was abandoned by its owner; the next start begins a new one.
    NightAbandoned { reason: String },
}

/// How far a night is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NightState {
    /// The next start resumes it.
    Unfinished,
    /// It is complete, or its time was spent.
    Finished,
    /// Its owner gave it up.
    Abandoned,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    v: u32,
    at: Timestamp,
    #[serde(flatten)]
    entry: Entry,
}

/// The append-only record of one night: one fsynced JSON line per entry.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    entries: Vec<Entry>,
    /// When the first entry was written.
    begun: Option<Timestamp>,
    /// When starts failed.
    failed: Vec<Timestamp>,
    clock: Clock,
}

impl Journal {
    /// Opens the journal at `path`; empty if the file does not exist. An incomplete or invalid last
    /// line, as left by a crash during a write, is removed; any other damage is an error.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let bytes = read_if_there(&path)?.unwrap_or_default();
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        let (lines, torn) = bytes.split_at(whole);
        if !torn.is_empty() {
            tracing::warn!(path = %path.display(), bytes = torn.len(), "removed an incomplete last journal line");
            truncate(&path, whole)?;
        }
        let mut journal = Self {
            path,
            entries: Vec::new(),
            begun: None,
            failed: Vec::new(),
            clock: Clock::default(),
        };
        let path = journal.path.clone();
        let mut read = 0;
        for (index, line) in lines.split_inclusive(|&byte| byte == b'\n').enumerate() {
            match parse(&path, index + 1, line.trim_ascii_end()) {
                _ if line == b"\n" => {}
                Ok(line) => journal.push(line),
                // Left by a power cut during the last write. The work that it recorded is repeated.
                Err(Error::Record { expected: ENTRY, found, .. })
                    if index > 0 && read + line.len() == lines.len() =>
                {
                    tracing::warn!(path = %path.display(), found, "removed an invalid last journal line");
                    truncate(&path, read)?;
                }
                Err(error) => return Err(error),
            }
            read += line.len();
        }
        Ok(journal)
    }

    /// New entries have the time of this clock.
    pub fn dated_by(self, clock: &Clock) -> Self {
        Self { clock: clock.clone(), ..self }
    }

    /// Appends an entry and waits until it is on disk.
    pub fn append(&mut self, entry: Entry) -> Result<()> {
        let line = Line { v: JOURNAL_VERSION, at: self.clock.now().timestamp(), entry };
        let text = serde_json::to_string(&line).map_err(|e| Error::Record {
            path: self.path.clone(),
            line: None,
            expected: "an entry that serializes to JSON",
            found: e.to_string(),
        })?;
        durable::append_line(&self.path, &text)?;
        self.push(line);
        Ok(())
    }

    fn push(&mut self, Line { at, entry, .. }: Line) {
        self.begun.get_or_insert(at);
        if matches!(entry, Entry::StageFailed { .. } | Entry::StartFailed { .. }) {
            self.failed.push(at);
        }
        self.entries.push(entry);
    }

    /// When starts of the night failed.
    pub fn failed(&self) -> &[Timestamp] {
        &self.failed
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn is_finished(&self) -> bool {
        let over = |e: &Entry| matches!(e, Entry::NightFinished | Entry::NightGivenUp { .. });
        self.entries.iter().any(over)
    }

    /// Whether the night is over without a verdict.
    pub fn is_given_up(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::NightGivenUp { .. }))
    }

    /// When the night was first started.
    pub fn begun(&self) -> Option<Timestamp> {
        self.begun
    }

    /// How far the night is.
    pub fn state(&self) -> NightState {
        let abandoned = |entry: &Entry| matches!(entry, Entry::NightAbandoned { .. });
        match self.is_finished() {
            true => NightState::Finished,
            false if self.entries.iter().any(abandoned) => NightState::Abandoned,
            false => NightState::Unfinished,
        }
    }

    /// The champion that the candidate is compared with, `Some(None)` for the base model; `None`
    /// before the night began with this base model.
    pub fn champion(&self, of: Digest) -> Option<Option<Digest>> {
        let last = self.entries.iter().rev().find_map(|entry| match entry {
            Entry::NightBegun { base, champion, .. } => Some((*base, *champion)),
            _ => None,
        });
        last.filter(|(base, _)| *base == Some(of)).map(|(_, champion)| champion)
    }

    /// Whether a stage has finished with the base model and champion that were recorded last.
    pub fn has_finished(&self, stage: StageName) -> bool {
        let is = |e: &Entry| matches!(e, Entry::StageFinished { stage: s, .. } if *s == stage);
        let since = self.entries.iter().rev();
        since.take_while(|entry| !matches!(entry, Entry::NightBegun { .. })).any(is)
    }

    /// Digest of the input that `stage` was last started on.
    pub fn last_begun(&self, stage: StageName) -> Option<Digest> {
        self.entries.iter().rev().find_map(|entry| match entry {
            Entry::StageBegun { stage: s, key } if *s == stage => Some(*key),
            _ => None,
        })
    }

    /// Seconds and output of `stage`, if it finished on the input `key` and was not started again
    /// since.
    pub fn finished(&self, stage: StageName, key: Digest) -> Option<(f64, &Value)> {
        let last = self.entries.iter().rev().find(|entry| match entry {
            Entry::StageBegun { stage: s, .. } | Entry::StageFinished { stage: s, .. } => {
                *s == stage
            }
            _ => false,
        })?;
        match last {
            Entry::StageFinished { key: k, seconds, output, .. } if *k == key => {
                Some((*seconds, output))
            }
            _ => None,
        }
    }
}

const ENTRY: &str = "a journal entry";

fn parse(path: &Path, number: usize, line: &[u8]) -> Result<Line> {
    let error = |expected, found| Error::Record {
        path: path.to_path_buf(),
        line: Some(number),
        expected,
        found,
    };
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let Version { v } = serde_json::from_slice(line).map_err(|e| error(ENTRY, e.to_string()))?;
    if v != JOURNAL_VERSION {
        return Err(error("a journal of version 1", format!("version {v}")));
    }
    serde_json::from_slice(line).map_err(|e| error(ENTRY, e.to_string()))
}

fn truncate(path: &Path, length: usize) -> Result<()> {
    let file = OpenOptions::new().write(true).open(path).map_err(io_error(path, "open"))?;
    file.set_len(length as u64).and_then(|()| file.sync_all()).map_err(io_error(path, "repair"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn key(text: &str) -> Digest {
        durable::digest(text)
    }

    fn begun(text: &str) -> Entry {
        Entry::StageBegun { stage: StageName::Train, key: key(text) }
    }

    fn finished(text: &str) -> Entry {
        let output = serde_json::json!({ "of": text });
        Entry::StageFinished { stage: StageName::Train, key: key(text), seconds: 1.5, output }
    }

    fn written(path: &Path) {
        let mut journal = Journal::open(path).unwrap();
        journal
            .append(Entry::NightBegun {
                night: "0001-2026-04-08".into(),
                base: None,
                champion: None,
            })
            .unwrap();
        journal.append(begun("a")).unwrap();
        journal.append(finished("a")).unwrap();
    }

    #[test]
    fn reads_back_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        written(&path);
        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.entries().len(), 3);
        let (seconds, output) = journal.finished(StageName::Train, key("a")).unwrap();
        assert_eq!((seconds, output["of"].as_str()), (1.5, Some("a")));
        assert!(journal.finished(StageName::Train, key("b")).is_none());
        assert!(journal.finished(StageName::Exam, key("a")).is_none());
        assert!(!journal.is_finished());
    }

    #[test]
    fn a_journal_truncated_at_any_byte_opens_and_can_be_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        written(&path);
        let bytes = fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            let mut journal = Journal::open(&path).unwrap();
            let whole = bytes[..length].iter().filter(|&&b| b == b'\n').count();
            assert_eq!(journal.entries().len(), whole, "cut at {length}");
            journal.append(begun("after the crash")).unwrap();
            let again = Journal::open(&path).unwrap();
            assert_eq!(again.entries().len(), whole + 1, "cut at {length}");
        }
    }

    #[test]
    fn another_base_model_has_another_champion_and_no_finished_stage() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path().join("journal.jsonl")).unwrap();
        let night = |base: Option<Digest>, champion: Option<Digest>| Entry::NightBegun {
            night: "0001-2026-04-08".into(),
            base,
            champion,
        };
        let (gemma, qwen) = (key("gemma"), key("qwen"));
        journal.append(night(None, None)).unwrap();
        assert_eq!(journal.champion(gemma), None);
        journal.append(night(Some(gemma), Some(key("g")))).unwrap();
        journal.append(finished("rows")).unwrap();
        assert_eq!(journal.champion(gemma), Some(Some(key("g"))));
        assert!(journal.has_finished(StageName::Train) && journal.champion(qwen).is_none());
        journal.append(night(Some(qwen), None)).unwrap();
        assert_eq!(journal.champion(qwen), Some(None));
        assert!(!journal.has_finished(StageName::Train) && journal.champion(gemma).is_none());
    }

    #[test]
    fn a_result_is_discarded_when_the_stage_starts_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        written(&path);
        let mut journal = Journal::open(&path).unwrap();
        journal.append(begun("b")).unwrap();
        assert!(journal.finished(StageName::Train, key("a")).is_none());
        assert_eq!(journal.last_begun(StageName::Train), Some(key("b")));
    }

    #[test]
    fn an_invalid_last_line_is_removed_and_an_earlier_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        written(&path);
        let whole = fs::read(&path).unwrap();
        for tail in [&b"\0\0\0\0\n"[..], b"{\"v\":1}\n", b"\xff\xfe\n"] {
            fs::write(&path, [&whole, tail].concat()).unwrap();
            assert_eq!(Journal::open(&path).unwrap().entries().len(), 3);
            assert_eq!(fs::read(&path).unwrap(), whole);
            fs::write(&path, [&whole, tail, &whole].concat()).unwrap();
            let message = Journal::open(&path).unwrap_err().to_string();
            assert!(message.contains("journal.jsonl:4"), "{message}");
        }
    }

    #[test]
    fn damage_elsewhere_is_an_error_with_its_line() {
        let cases = [
            ("{\"v\":1}\n", "journal.jsonl:1"),
            (
                "{\"v\":9,\"at\":\"2026-04-08T01:00:00Z\",\"event\":\"night_finished\"}\n",
                "version 9",
            ),
            ("not json\n", "journal.jsonl:1"),
        ];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        for (text, expected) in cases {
            fs::write(&path, text).unwrap();
            let message = Journal::open(&path).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
