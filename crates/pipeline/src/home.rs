//! The home: the folder with everything of one installation.

use std::path::{Path, PathBuf};

use crate::config::NightConfig;
use crate::error::{Error, Result, io_error};
use crate::files::{self, private_dir};

/// The folder with everything of one installation, readable only by its owner.
///
/// ```text
/// home/
///   night.lock          held while a night runs
///   registry.lock       held while the registry changes
///   registry.json       champion, candidate, previous, history of each base model
///   registry.last.json  the same before the last change
///   registry.v1.json    the last file of version 1, if there was one
///   audit.jsonl         one line per call to the registry
///   fresh-exams.jsonl   one line per fresh exam: its seed or file, written before it is used
///   answers/BASE/       answers of base model, champion and candidate to the standing exam
///   memory.json         the memory limit found after training ran out of memory
///   preflight.json      the report of the last preflight
///   index.html          all nights on one page
///   metrics.txt         the last night as OpenMetrics
///   adapters/<sha256>/  adapters by digest, in the layout of mlx-lm
///   serving/BASE.json   what should serve, for servers; with a link to the adapter
///   chats/DATE.jsonl    what was served, if the server records it
///   replay/             base models' own answers to neutral prompts
///   nights/0001-2026-04-08/
///     journal.jsonl     started and finished stages, with their results
///     summary.json      outcome and figures of the finished night
///     row-digests.txt   digests of the clean rows, by which the next night counts what is new
///     rows.json         how many raw rows are where; with the files that list them
///     convert/ enrich/ train/ exam/ fresh_exam/ gate/ promote/ report/
/// ```
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Opens the home at `root`, creating it if missing.
    ///
    /// # Errors
    /// The folder cannot be created or opened, or a part of its path is `~`.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        if root.iter().any(|part| part == "~") {
            return Err(Error::Config {
                path: root,
                reason: "home: expected a folder; a shell replaces `~` by your home, here it would be a folder's name"
                    .to_owned(),
            });
        }
        private_dir(&root)?;
        // Absolute, so that paths in records and messages do not depend on the working directory.
        let root = root.canonicalize().map_err(io_error(&root, "open"))?;
        let home = Self { root };
        private_dir(&home.adapters())?;
        private_dir(&home.nights())?;
        Ok(home)
    }

    /// The home of a configuration, or the user's default home.
    pub(crate) fn of(config: &NightConfig) -> Result<Self> {
        let missing = || Error::Config {
            path: "night".into(),
            reason: "home: expected a folder, found none: this user has no data folder".into(),
        };
        Self::open(config.home.clone().or_else(Home::default_path).ok_or_else(missing)?)
    }

    /// The default home: `nightshift` in the user's data folder; `None` if the user has none.
    pub fn default_path() -> Option<PathBuf> {
        dirs::data_dir().map(|data| data.join("nightshift"))
    }

    /// The home's folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The page about all nights.
    pub fn index(&self) -> PathBuf {
        self.root.join("index.html")
    }

    pub(crate) fn lock_file(&self) -> PathBuf {
        self.root.join("night.lock")
    }

    pub(crate) fn fresh_exams(&self) -> PathBuf {
        self.root.join("fresh-exams.jsonl")
    }

    pub(crate) fn answers(&self) -> PathBuf {
        self.root.join("answers")
    }

    /// Copies the answers of models that another home keeps, unless this one keeps some: to exams, and to the prompts that are
    /// replayed.
    ///
    /// # Errors
    /// [`Error::Io`] with the path.
    pub fn take_answers(&self, other: &Home) -> Result<()> {
        let kept = |home: &Home| [home.answers(), home.replay()];
        for (from, to) in kept(other).into_iter().zip(kept(self)) {
            if from.exists() && !to.exists() {
                files::link_folder(&from, &to)?;
            }
        }
        Ok(())
    }

    pub(crate) fn adapters(&self) -> PathBuf {
        self.root.join("adapters")
    }

    pub(crate) fn nights(&self) -> PathBuf {
        self.root.join("nights")
    }

    pub(crate) fn chats(&self) -> PathBuf {
        self.root.join("chats")
    }

    pub(crate) fn serving(&self) -> PathBuf {
        self.root.join("serving")
    }

    pub(crate) fn replay(&self) -> PathBuf {
        self.root.join("replay")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn answers_of_another_home_are_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| Home::open(dir.path().join(name)).unwrap();
        let (full, empty) = (open("full"), open("empty"));
        let [of_base, replayed] = [full.answers().join("base"), full.replay()];
        for folder in [&of_base, &replayed] {
            private_dir(folder).unwrap();
            fs::write(folder.join("a.jsonl"), "an answer\n").unwrap();
        }
        empty.take_answers(&full).unwrap();
        let taken = [empty.answers().join("base/a.jsonl"), empty.replay().join("a.jsonl")];
        let read = || taken.each_ref().map(|path| fs::read_to_string(path).unwrap());
        assert_eq!(read(), ["an answer\n", "an answer\n"]);
        fs::write(of_base.join("a.jsonl"), "another\n").unwrap();
        empty.take_answers(&full).unwrap();
        assert_eq!(read(), ["an answer\n", "an answer\n"]);
    }
}
