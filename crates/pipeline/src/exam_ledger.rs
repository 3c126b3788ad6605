//! Which fresh exams a home has used: `fresh-exams.jsonl`, one line each, written before the exam is taken.

use std::fmt;
use std::path::PathBuf;

use durable::Digest;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files;
use crate::home::Home;
use crate::registry::State;

const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);

/// The fresh exams of a home, oldest first.
pub(crate) struct ExamLedger {
    path: PathBuf,
    drawn: Vec<Drawn>,
}

/// One fresh exam.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Drawn {
    pub at: Timestamp,
    /// The night's id.
    pub night: String,
    /// The candidate. A night whose adapter is trained anew draws another exam.
    pub candidate: Digest,
    pub origin: Origin,
}

/// Where a fresh exam comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    /// Generated from this seed.
    Seed(Seed),
    /// A suite file.
    Sealed { path: PathBuf, sha256: Digest },
}

/// The seed of a generated exam, written in hexadecimal: JSON numbers lose digits beyond 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Seed(pub u64);

impl From<Seed> for String {
    fn from(seed: Seed) -> Self {
        format!("{:016x}", seed.0)
    }
}

impl TryFrom<String> for Seed {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        u64::from_str_radix(&text, 16).map(Seed)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seed(seed) => write!(f, "generated from seed {}", String::from(*seed)),
            Self::Sealed { path, .. } => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                write!(f, "sealed exam {name}")
            }
        }
    }
}

impl Drawn {
    pub fn new(at: Timestamp, night: &str, candidate: Digest, origin: Origin) -> Self {
        Self { at, night: night.to_owned(), candidate, origin }
    }
}

impl ExamLedger {
    /// Reads the ledger; empty if there is none. A torn last line, left by a killed process, is dropped: its exam was not
    /// used yet.
    ///
    /// # Errors
    /// A line that cannot be read: forgetting an exam would let it be used again.
    pub fn open(home: &Home) -> Result<Self> {
        let path = home.fresh_exams();
        let bytes = files::read_if_there(&path)?.unwrap_or_default();
        let mut drawn = Vec::new();
        for (i, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let Some(line) = line.strip_suffix(b"\n") else { break };
            match serde_json::from_slice(line) {
                Ok(entry) => drawn.push(entry),
                // An append after a torn line leaves it in the middle, cut off where no entry is complete.
                Err(error) if error.is_eof() => {}
                Err(error) => {
                    return Err(Error::Record {
                        path,
                        line: Some(i + 1),
                        expected: "a fresh exam that was drawn",
                        found: error.to_string(),
                    });
                }
            }
        }
        Ok(Self { path, drawn })
    }

    /// The exam of a night and its candidate, if one was drawn: a night that was killed resumes with it.
    pub fn drawn_for(&self, night: &str, candidate: Digest) -> Option<&Drawn> {
        self.drawn.iter().find(|drawn| drawn.night == night && drawn.candidate == candidate)
    }

    /// Whether a sealed exam was used, under whatever name.
    pub fn has_used(&self, suite: Digest) -> bool {
        let is =
            |origin: &Origin| matches!(origin, Origin::Sealed { sha256, .. } if *sha256 == suite);
        self.drawn.iter().any(|drawn| is(&drawn.origin))
    }

    /// The exams of the 365 days before `now` whose candidate was not promoted that night.
    pub fn failed_within_a_year(&self, state: &State, now: Timestamp) -> Vec<&Drawn> {
        let promoted = |drawn: &Drawn| state.has_promoted(&drawn.night, drawn.candidate);
        let since = now - YEAR;
        self.drawn.iter().filter(|drawn| drawn.at > since && !promoted(drawn)).collect()
    }

    /// The date from which an exam is no longer among those of the last 365 days.
    pub fn leaves_the_year(&self, drawn: &Drawn) -> String {
        (drawn.at + YEAR).strftime("%Y-%m-%d").to_string()
    }

    /// Adds an exam and waits until the line is on disk.
    pub fn enter(&mut self, drawn: Drawn) -> Result<()> {
        let line = serde_json::to_string(&drawn).map_err(|error| Error::Record {
            path: self.path.clone(),
            line: None,
            expected: "an entry that serializes to JSON",
            found: error.to_string(),
        })?;
        durable::append_line(&self.path, &line)?;
        self.drawn.push(drawn);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::BaseState;

    fn home() -> (Home, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (Home::open(dir.path()).unwrap(), dir)
    }

    fn drawn(night: &str, candidate: Digest, origin: Origin) -> Drawn {
        Drawn::new(Timestamp::now(), night, candidate, origin)
    }

    fn sealed(name: &str) -> Origin {
        Origin::Sealed { path: name.into(), sha256: durable::digest(name) }
    }

    #[test]
    fn what_was_drawn_is_remembered() {
        let (home, _dir) = home();
        let candidate = durable::digest("adapter");
        let mut ledger = ExamLedger::open(&home).unwrap();
        assert!(ledger.drawn_for("0001-x", candidate).is_none());
        ledger.enter(drawn("0001-x", candidate, Origin::Seed(Seed(u64::MAX)))).unwrap();
        ledger.enter(drawn("0002-x", candidate, sealed("a.json"))).unwrap();
        let again = ExamLedger::open(&home).unwrap();
        assert_eq!(again.drawn, ledger.drawn);
        let seed = again.drawn_for("0001-x", candidate).unwrap();
        assert_eq!(seed.origin, Origin::Seed(Seed(u64::MAX)));
        assert!(again.drawn_for("0001-x", durable::digest("trained anew")).is_none());
        assert!(again.has_used(durable::digest("a.json")) && !again.has_used(durable::digest("b")));
    }

    #[test]
    fn a_torn_line_is_dropped_and_a_wrong_one_is_an_error() {
        let (home, _dir) = home();
        let mut ledger = ExamLedger::open(&home).unwrap();
        let entry = drawn("0001-x", durable::digest("a"), sealed("a.json"));
        ledger.enter(entry.clone()).unwrap();
        let text = std::fs::read_to_string(home.fresh_exams()).unwrap();
        std::fs::write(home.fresh_exams(), format!("{text}{}", &text[..20])).unwrap();
        let mut ledger = ExamLedger::open(&home).unwrap();
        assert_eq!(ledger.drawn.len(), 1);
        ledger.enter(entry).unwrap();
        assert_eq!(ExamLedger::open(&home).unwrap().drawn.len(), 2);
        std::fs::write(home.fresh_exams(), format!("{text}{{\"night\": 7}}\n")).unwrap();
        let error = ExamLedger::open(&home).err().unwrap().to_string();
        assert!(error.contains("fresh-exams.jsonl:2"), "{error}");
    }

    #[test]
    fn only_failures_of_the_last_year_count() {
        let (home, _dir) = home();
        let mut ledger = ExamLedger::open(&home).unwrap();
        let at = |night: &str, days: i64| Drawn {
            at: Timestamp::now() - SignedDuration::from_hours(24 * days),
            ..drawn(night, durable::digest(night), sealed(night))
        };
        for (night, days) in [("old", 366), ("recent", 364), ("promoted", 10), ("last", 0)] {
            ledger.enter(at(night, days)).unwrap();
        }
        let mut state = BaseState::default();
        let change = |night: &str, champion: &str| {
            serde_json::from_value(serde_json::json!({
                "at": Timestamp::now(), "action": "promote", "champion": durable::digest(champion),
                "previous": null, "night": night, "reason": "better",
            }))
        };
        state.history.push(change("promoted", "promoted").unwrap());
        // Promoted by hand later, or another adapter: the exam was failed all the same.
        state.history.push(change("last", "another").unwrap());
        let mut all = State::default();
        all.bases.insert(durable::digest("base"), state);
        let failed: Vec<_> = ledger
            .failed_within_a_year(&all, Timestamp::now())
            .iter()
            .map(|drawn| drawn.night.as_str())
            .collect();
        assert_eq!(failed, ["recent", "last"]);
    }
}
