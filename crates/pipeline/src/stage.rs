//! The interface of a stage, and what a running stage can use.

use std::path::{Path, PathBuf};

use chat_format::ChatTokenizer;
use durable::Digest;
use lora_train::TrainConfig;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer, ser};

use crate::budget_monitor::BudgetMonitor;
use crate::error::{Error, Result};
use crate::nights;
use crate::observer::{Event, Observer};
use crate::stages::StageName;

/// A file written by a stage, with the digest of its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Artefact {
    /// Path relative to the night's folder.
    pub path: PathBuf,
    pub sha256: Digest,
}

impl Artefact {
    /// Records the file at `path`, which lies below `night`.
    pub fn of(night: &Path, path: &Path) -> Result<Self> {
        let relative = path.strip_prefix(night).unwrap_or(path).to_path_buf();
        Ok(Self { path: relative, sha256: durable::sha256_file(path)? })
    }

    /// The file's full path, if its content still has the recorded digest.
    pub fn verified(&self, night: &Path) -> Result<PathBuf> {
        let path = night.join(&self.path);
        let found = durable::sha256_file(&path)?;
        if found == self.sha256 {
            Ok(path)
        } else {
            Err(Error::Corrupt { path, expected: self.sha256, found })
        }
    }
}

/// A stage of the night: a struct of its inputs that produces an output.
///
/// The serialized struct, with the version of the stage and of the program, is the key under which its output is kept. It
/// contains everything that can change the output, and nothing else: files as [`Artefact`]s or digests, never as bare
/// paths; of other outputs what the stage reads of them.
pub(crate) trait Stage: Serialize {
    /// Which stage this is.
    const NAME: StageName;
    /// Increase it when the same input produces another output than before.
    const VERSION: u32 = 1;
    /// Whether what an earlier night has done for the same key is taken over: its output, or the files of a run that did not
    /// come to its end.
    const ACROSS_NIGHTS: bool = false;
    /// The result that later stages use.
    type Output: Serialize + DeserializeOwned;

    /// Does the work in the folder `ctx.dir`. A restarted stage finds there the files of the
    /// killed run.
    fn run(&self, ctx: &mut StageContext<'_>) -> Result<Self::Output>;

    /// The files that an output refers to. A stored output is reused only while their digests match.
    fn artefacts(output: &Self::Output) -> Vec<&Artefact>;

    /// Whether another night takes an output over as it is. Otherwise it goes on with the stage's files.
    fn is_complete(_: &Self::Output) -> bool {
        true
    }

    /// The output of an earlier night as that of this one.
    fn taken_over(&self, output: Self::Output) -> Result<Self::Output> {
        Ok(output)
    }

    /// One line about an output, for tables.
    fn describe(output: &Self::Output) -> String;
}

/// Serializes of a recipe what determines the result: the form of a field for the key of a stage.
pub(crate) fn determining<S: Serializer>(
    recipe: &&TrainConfig,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    recipe.determining().map_err(ser::Error::custom)?.serialize(serializer)
}

/// What a running stage can use: its folder, the files of earlier stages, the observer, the budgets.
pub(crate) struct StageContext<'a> {
    pub stage: StageName,
    /// The night's folder, to which artefact paths are relative.
    pub night: &'a Path,
    /// The stage's own folder.
    pub dir: &'a Path,
    pub budgets: &'a BudgetMonitor,
    /// The memory in bytes that a model may take that answers.
    pub memory_limit: u64,
    pub observer: &'a mut dyn Observer,
}

impl StageContext<'_> {
    pub fn artefact(&self, path: &Path) -> Result<Artefact> {
        Artefact::of(self.night, path)
    }

    pub fn progress(&mut self, done: u64, total: u64, note: &str) {
        self.observer.event(Event::Progress { stage: self.stage, done, total, note });
    }

    /// The tokenizer of a model, with the date of the night.
    pub fn tokenizer(&self, model: &Path) -> Result<ChatTokenizer> {
        let id = self.night.file_name().unwrap_or_default();
        nights::tokenizer(&id.to_string_lossy(), model)
    }

    /// The error of a stage that ran out of time before it had a result.
    pub fn out_of_time(&self) -> Error {
        self.budgets.out_of_time(self.stage)
    }
}
