//! The index of a checkpoint in several files: which file holds which tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::json::parse;
use super::store::Store;
use crate::{Error, Result};

const INDEX: &str = "model.safetensors.index.json";

/// File names by the names of their tensors.
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

    /// The files it names, which must be in its own folder.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        for (tensor, file) in &self.files {
            let mut parts = Path::new(file).components();
            let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
            if !plain {
                return Err(self.wrong(tensor, "the name of a file in the same folder", file));
            }
            if !self.folder.join(file).is_file() {
                return Err(self.wrong(tensor, "a file that exists", file));
            }
        }
        let files: BTreeSet<PathBuf> =
            self.files.values().map(|file| self.folder.join(file)).collect();
        Ok(files.into_iter().collect())
    }

    /// Whether the tensor of `file` counts, which it does unless the index names another file for it.
    pub fn allows(&self, tensor: &str, file: &Path) -> bool {
        self.files.get(tensor).is_none_or(|named| *self.folder.join(named) == *file)
    }

    /// Checks that every tensor is in the file that the index names.
    pub fn check(&self, store: &Store) -> Result<()> {
        let lacks = |(tensor, file): &(&String, &String)| {
            store.get(tensor).is_none_or(|entry| *entry.file() != *self.folder.join(file))
        };
        match self.files.iter().find(lacks) {
            Some((tensor, file)) => {
                Err(self.wrong(tensor, &format!("the tensor in {file}"), "no such tensor"))
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
