//! What a stage is, and what it may touch.

use std::fmt;
use std::path::{Path, PathBuf};

use durable::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::guards::{Guards, Stop};
use crate::observer::{Event, Observer};

/// The stages of a night, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageName {
    /// Raw rows to clean conversations.
    Convert,
    /// Conversations to a training set: refusals, identity, routing, splits.
    Enrich,
    /// A LoRA adapter from the training set.
    Train,
    /// Base, candidate and champion answer the suite.
    Exam,
    /// The verdict on the candidate.
    Gate,
    /// The verdict is carried out in the registry.
    Promote,
    /// The page about the night.
    Report,
}

impl StageName {
    /// All stages, in order.
    pub const ALL: [Self; 7] = [
        Self::Convert,
        Self::Enrich,
        Self::Train,
        Self::Exam,
        Self::Gate,
        Self::Promote,
        Self::Report,
    ];

    /// The stage's name in journals, folders and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Convert => "convert",
            Self::Enrich => "enrich",
            Self::Train => "train",
            Self::Exam => "exam",
            Self::Gate => "gate",
            Self::Promote => "promote",
            Self::Report => "report",
        }
    }
}

impl StageName {
    /// Whether the wall-clock budget stops it. What comes after training always runs: a night that
    /// has an adapter ends with a verdict.
    pub(crate) fn is_timed(self) -> bool {
        matches!(self, Self::Convert | Self::Enrich | Self::Train)
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A file that a stage made: its path within the night's folder, and what it held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artefact {
    /// Path relative to the night's folder.
    pub path: PathBuf,
    /// Digest of the content.
    pub sha256: Digest,
}

impl Artefact {
    /// Takes down the file at `path`, which lies below `night`.
    pub(crate) fn of(night: &Path, path: &Path) -> Result<Self> {
        let relative = path.strip_prefix(night).unwrap_or(path).to_path_buf();
        Ok(Self { path: relative, sha256: durable::sha256_file(path)? })
    }

    /// The file's full path, if it still holds what it held.
    pub(crate) fn verified(&self, night: &Path) -> Result<PathBuf> {
        let path = night.join(&self.path);
        let found = durable::sha256_file(&path)?;
        if found == self.sha256 {
            Ok(path)
        } else {
            Err(Error::Corrupt { path, expected: self.sha256, found })
        }
    }
}

/// A step of the night: a value that is its own input, and what becomes of it.
///
/// The serialized value is the cache key, so everything that can change the output has to be in
/// it: files go in as [`Artefact`]s or digests, never as bare paths.
pub(crate) trait Stage: Serialize {
    /// Which stage this is.
    const NAME: StageName;
    /// Raised when the same input would now give another output.
    const VERSION: u32 = 1;
    /// What the stage leaves for the later ones.
    type Output: Serialize + DeserializeOwned;

    /// Does the work, in `desk.dir()`. After a kill it finds there what the killed run left.
    fn run(&self, desk: &mut Desk<'_>) -> Result<Self::Output>;

    /// The files behind an output; it is only used again while they hold what they held.
    fn artefacts(output: &Self::Output) -> Vec<&Artefact>;

    /// One line about an output, for tables.
    fn figures(output: &Self::Output) -> String;
}

/// What a running stage may touch: its own folder, the night's earlier files, the observer.
pub(crate) struct Desk<'a> {
    pub(crate) stage: StageName,
    pub(crate) night: &'a Path,
    pub(crate) dir: &'a Path,
    pub(crate) guards: &'a Guards,
    pub(crate) observer: &'a mut dyn Observer,
}

impl Desk<'_> {
    /// The stage's own folder.
    pub fn dir(&self) -> &Path {
        self.dir
    }

    /// The night's folder, which artefact paths are relative to.
    pub fn night(&self) -> &Path {
        self.night
    }

    /// Takes down a file of this stage.
    pub fn artefact(&self, path: &Path) -> Result<Artefact> {
        Artefact::of(self.night, path)
    }

    /// Tells the observer how far the stage is.
    pub fn progress(&mut self, done: u64, total: u64, note: &str) {
        self.observer.event(Event::Progress { stage: self.stage, done, total, note });
    }

    /// Whether the stage has to stop, its process using so many bytes.
    pub fn stop(&self, used: u64) -> Option<Stop> {
        self.guards.stop(used)
    }

    /// The error of a stage that has nothing to show when its time is up.
    pub fn out_of_time(&self) -> Error {
        self.guards.out_of_time(self.stage)
    }
}
