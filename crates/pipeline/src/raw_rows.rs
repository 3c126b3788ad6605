//! The raw rows of a night: files by split, or a generator of synthetic rows.

use std::path::{Path, PathBuf};

use chat_format::clean::Inputs;
use durable::Digest;
use enrich::given::GivenSplits;
use enrich::household::{Phrasings, write_raw};
use enrich::split::Split;
use enrich::{GeneratorData, GeneratorFiles, Household};
use serde::Serialize;

use crate::config::{DataSource, NightConfig, RawPaths};
use crate::error::{Error, Result};
use crate::home::Home;
use crate::served_chats::ServedChats;

/// The raw rows: files, or a generator of synthetic rows.
#[derive(Debug, Default, Serialize)]
pub(crate) struct RawRows {
    /// The files, by split. Without given splits, one part.
    parts: Vec<RawPart>,
    household: Option<HouseholdRows>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chats: Option<ServedChats>,
    /// The folder below which rows name their files.
    #[serde(skip)]
    base: PathBuf,
    /// What was asked for and is not there, if the night goes on without it.
    #[serde(skip)]
    pub remark: Option<String>,
}

/// The files of one split, or of all rows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RawPart {
    pub split: Option<Split>,
    /// Name and digest of each file; the name is in the rows.
    files: Vec<(String, Digest)>,
    #[serde(skip)]
    pub inputs: Inputs,
}

/// Rows generated from a household's facts.
#[derive(Debug, Serialize)]
struct HouseholdRows {
    rows: usize,
    seed: u64,
    /// Digests of the facts, of the household's own files, and of the data that stands in for the others.
    sha256: Vec<Digest>,
    #[serde(skip)]
    facts: PathBuf,
    #[serde(skip)]
    files: GeneratorFiles,
}

impl RawRows {
    /// Finds the files of the rows and takes their digests. `given` are the splits of the data, and `as_they_are` says
    /// whether rows stay in theirs.
    ///
    /// # Errors
    /// A path without rows, or that cannot be read.
    pub fn locate(
        config: &NightConfig,
        given: Option<&GivenSplits>,
        as_they_are: bool,
    ) -> Result<Self> {
        let data = &config.setup.data;
        let mut rows = Self::default();
        if let DataSource::Household { facts, rows: count, seed } = data {
            rows.household = Some(HouseholdRows::new(facts, *count, *seed, &config.household)?);
        }
        if let Some(days) = data.chats() {
            let (folder, today) = (Home::of(config)?.chats(), config.clock.now().date());
            rows.chats = ServedChats::locate(folder.clone(), days, today)?;
            match (&rows.chats, data.raw()) {
                (Some(_), _) => {}
                (None, Some(_)) => rows.remark = Some(ServedChats::none(days)),
                (None, None) => {
                    let reason = ServedChats::none(days);
                    return Err(Error::Config { path: folder, reason });
                }
            }
        }
        let Some(paths) = data.raw() else { return Ok(rows) };
        let base = common_folder(paths);
        let part = |split, paths: Vec<PathBuf>| RawPart::new(split, &paths, &base);
        let parts = match given {
            Some(given) if as_they_are => {
                let parts = given.parts.iter();
                parts.map(|(split, path)| part(Some(*split), vec![path.clone()])).collect()
            }
            Some(given) => {
                let files = given.parts.iter().map(|(_, path)| path.clone()).collect();
                part(None, files).map(|part| vec![part])
            }
            None => part(None, paths.iter().map(train_only).collect()).map(|part| vec![part]),
        };
        Ok(Self { parts: parts?, base, ..rows })
    }

    /// The files by split, and the folder below which they are named. Rows of a household are generated into the folder
    /// `dir`, and those of recorded chats collected there; beside files, they are the last of them.
    pub fn parts(&self, dir: &Path) -> Result<(Vec<RawPart>, PathBuf)> {
        let made = match (&self.household, &self.chats) {
            (Some(household), _) => Some(household.write(dir)?),
            (None, Some(chats)) => Some(chats.write(dir)?),
            (None, None) => None,
        };
        Ok(match (made, &self.parts[..]) {
            (None, parts) => (parts.to_vec(), self.base.clone()),
            (Some(made), []) => (vec![RawPart::new(None, &[made], dir)?], dir.to_path_buf()),
            (Some(made), parts) => {
                let files = parts.iter().flat_map(|part| &part.inputs.files);
                let files = files.map(|file| file.path.clone()).chain([made]).collect::<Vec<_>>();
                (vec![RawPart::new(None, &files, &self.base)?], self.base.clone())
            }
        })
    }

    /// Whether rows of recorded chats are among them.
    pub fn have_chats(&self) -> bool {
        self.chats.is_some()
    }

    /// Whether the rows are generated from a household's facts.
    pub fn are_generated(&self) -> bool {
        self.household.is_some()
    }
}

impl RawPart {
    fn new(split: Option<Split>, paths: &[PathBuf], base: &Path) -> Result<Self> {
        let inputs = Inputs::find(paths)?;
        let file = |path: &Path| {
            let name = path.strip_prefix(base).unwrap_or(path).to_string_lossy().into_owned();
            Ok::<_, Error>((name, durable::sha256_file(path)?))
        };
        let files = inputs.files.iter().map(|input| file(&input.path)).collect::<Result<_>>()?;
        Ok(Self { split, files, inputs })
    }
}

impl HouseholdRows {
    fn new(facts: &Path, rows: usize, seed: u64, files: &GeneratorFiles) -> Result<Self> {
        let given = files.entries().into_iter().filter_map(|(_, file)| file.cloned());
        let all = std::iter::once(facts.to_path_buf()).chain(given);
        let mut sha256 = all.map(durable::sha256_file).collect::<durable::Result<Vec<_>>>()?;
        sha256.push(enrich::embedded_data());
        Ok(Self { rows, seed, sha256, facts: facts.to_path_buf(), files: files.clone() })
    }

    fn write(&self, dir: &Path) -> Result<PathBuf> {
        let (data, phrasings) = (GeneratorData::load(&self.files)?, Phrasings::of(&self.files)?);
        let rows = Household::load(&self.facts)?.rows(&data, &phrasings, self.rows, self.seed)?;
        let path = dir.join("raw.jsonl");
        write_raw(&path, &rows, self.seed)?;
        Ok(path)
    }
}

/// The path of rows, but for a folder with `train.jsonl` that file: what is beside it is not for training.
fn train_only(path: &Path) -> PathBuf {
    let train = path.join("train.jsonl");
    if train.is_file() { train } else { path.to_path_buf() }
}

/// The deepest folder that all paths are in.
fn common_folder(paths: &RawPaths) -> PathBuf {
    let mut folders = paths.iter().map(|path| path.parent().unwrap_or(Path::new("")));
    let first = folders.next().unwrap_or(Path::new("")).to_path_buf();
    folders.fold(first, |common, folder| {
        let same = common.components().zip(folder.components()).take_while(|(a, b)| a == b);
        same.map(|(part, _)| part).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_name_their_files_below_the_folder_that_all_are_in() {
        let paths = |paths: &[&str]| RawPaths::Several(paths.iter().map(PathBuf::from).collect());
        for (given, common) in [
            (&["a/b/c.jsonl"][..], "a/b"),
            (&["a/b/c.jsonl", "a/d"], "a"),
            (&["/a/b", "/c"], "/"),
            (&["a b", "ü"], ""),
        ] {
            assert_eq!(common_folder(&paths(given)), Path::new(common), "{given:?}");
        }
    }
}
