//! The copy of a model in the hub's cache, which is shared with other programs.
//!
//! Invariant: only what those programs write too is read: `refs/BRANCH` with a commit in it, and
//! `snapshots/COMMIT`. A commit needs no file in `refs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::Result;
use crate::error::io_error;

pub(crate) const CONFIG: &str = "config.json";
const INDEX: &str = "model.safetensors.index.json";

/// A model's folder in the cache.
#[derive(Debug)]
pub(crate) struct CachedModel {
    folder: PathBuf,
}

impl CachedModel {
    /// The model `repo`, as `OWNER/NAME`, in the folder `cache`.
    pub fn new(cache: &Path, repo: &str) -> Self {
        Self { folder: cache.join(format!("models--{}", repo.replace('/', "--"))) }
    }

    /// The path of a file at a revision, if it is there.
    pub fn file(&self, revision: &str, name: &str) -> Option<PathBuf> {
        let snapshot = self.folder.join("snapshots").join(self.commit(revision)?);
        Some(snapshot.join(name)).filter(|path| path.exists())
    }

    /// The folder of a revision with configuration and all weights, or the names of the files that are
    /// missing.
    pub fn complete(&self, revision: &str) -> std::result::Result<PathBuf, Vec<String>> {
        let Some(config) = self.file(revision, CONFIG) else { return Err(vec![CONFIG.into()]) };
        let weights = match self.file(revision, INDEX) {
            Some(index) => shards(&index),
            None => vec!["model.safetensors".to_owned()],
        };
        let is_missing = |name: &String| self.file(revision, name).is_none();
        let missing: Vec<_> = weights.into_iter().filter(is_missing).collect();
        match missing.is_empty() {
            true => Ok(config.parent().map(Path::to_path_buf).unwrap_or_default()),
            false => Err(missing),
        }
    }

    /// Records the commit of a branch or tag.
    pub fn set_commit(&self, revision: &str, commit: &str) -> Result<()> {
        if is_commit(revision) {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io_error(folder, "create the folder"))?;
        }
        Ok(durable::write(path, commit)?)
    }

    fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = std::fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
        // It becomes a part of a path.
        Some(commit.trim().to_owned()).filter(|commit| is_word(commit))
    }
}

/// Whether a revision is a whole commit hash.
fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a name is safe as a component of a path.
pub(crate) fn is_word(name: &str) -> bool {
    let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    letters && name.chars().any(char::is_alphanumeric)
}

/// The files that an index names. None if the index is damaged; opening the model reports that.
fn shards(index: &Path) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read(index).unwrap_or_default();
    let index = serde_json::from_slice::<Index>(&text);
    let files = index.map(|index| index.weight_map.into_values().collect::<BTreeSet<_>>());
    files.unwrap_or_default().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    /// A model of which another program has fetched these files, at the branch `main`.
    fn cached(files: &[(&str, &str)], main: &str) -> (tempfile::TempDir, CachedModel) {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("models--house--tiny");
        let snapshot = model.join("snapshots").join(COMMIT);
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::create_dir_all(model.join("refs")).unwrap();
        std::fs::write(model.join("refs/main"), main).unwrap();
        for (name, text) in files {
            std::fs::write(snapshot.join(name), text).unwrap();
        }
        let cached = CachedModel::new(folder.path(), "house/tiny");
        (folder, cached)
    }

    #[test]
    fn a_revision_is_a_branch_or_a_commit() {
        let (folder, model) = cached(&[(CONFIG, "{}"), ("model.safetensors", "")], COMMIT);
        let expected = folder.path().join("models--house--tiny/snapshots").join(COMMIT);
        for revision in ["main", COMMIT] {
            assert_eq!(model.complete(revision), Ok(expected.clone()), "{revision}");
        }
        for revision in ["dev", "0123456", &COMMIT.replace('0', "f")] {
            assert_eq!(model.complete(revision), Err(vec![CONFIG.to_owned()]), "{revision}");
        }
        let (_folder, model) = cached(&[(CONFIG, "{}"), ("model.safetensors", "")], "../../..\n");
        assert!(model.complete("main").is_err(), "a path is no commit");
    }

    #[test]
    fn missing_weights_are_named() {
        let index = r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#;
        for (files, missing) in [
            (vec![(CONFIG, "{}")], vec!["model.safetensors"]),
            (vec![("model.safetensors", "")], vec![CONFIG]),
            (vec![(CONFIG, "{}"), (INDEX, index), ("1.safetensors", "")], vec!["2.safetensors"]),
        ] {
            let (_folder, model) = cached(&files, COMMIT);
            let missing: Vec<_> = missing.into_iter().map(str::to_owned).collect();
            assert_eq!(model.complete("main"), Err(missing));
        }
    }
}
