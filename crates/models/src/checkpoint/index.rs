//! The index of a checkpoint in several files: which tensor lies in which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::store::Store;
use crate::arch::config_file::parse;
use crate::{Error, Result};

const INDEX: &str = "model.safetensors.index.json";

/// Names of files, by the tensors in them.
pub(super) struct Index {
    folder: PathBuf,
    files: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct IndexFile {
    weight_map: BTreeMap<String, String>,
}

impl Index {
    /// The index in `folder`, if there is one.
    pub fn open(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(INDEX);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Read { path, source }),
        };
        let IndexFile { weight_map } = parse(&path, &text)?;
        Ok(Some(Self { folder: folder.to_path_buf(), files: weight_map }))
    }

    /// The files it names, all of them in its own folder.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        for (tensor, file) in &self.files {
            let mut parts = Path::new(file).components();
            let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
            if !plain {
                return Err(self.wrong(tensor, "the name of a file beside the index", file));
            }
            if !self.folder.join(file).is_file() {
                return Err(self.wrong(tensor, "a file that is there", file));
            }
        }
        let files: BTreeSet<PathBuf> =
            self.files.values().map(|file| self.folder.join(file)).collect();
        Ok(files.into_iter().collect())
    }

    /// Refuses a file that lacks what the index promises.
    pub fn check(&self, store: &Store) -> Result<()> {
        let lacks = |(tensor, file): &(&String, &String)| {
            store.get(tensor).is_none_or(|entry| *entry.file != *self.folder.join(file))
        };
        match self.files.iter().find(lacks) {
            Some((tensor, file)) => {
                Err(self.wrong(tensor, &format!("the tensor in {file}"), "no such tensor there"))
            }
            None => Ok(()),
        }
    }

    fn wrong(&self, tensor: &str, expected: &str, found: &str) -> Error {
        Error::Index {
            path: self.folder.join(INDEX),
            tensor: tensor.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        }
    }
}
