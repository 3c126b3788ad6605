//! The manifest of a data set.

use std::path::{Path, PathBuf};

use durable::Digest;
use serde::{Deserialize, Serialize};

use crate::{Error, Recipe, Result};

/// Manifest written next to a data set: enough to tell whether two data sets are identical.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    /// The version of this crate.
    pub version: String,
    /// The recipe.
    pub recipe: Recipe,
    /// Whether the splits were drawn from the rows read, or given.
    #[serde(default)]
    pub splits: Origin,
    /// The seed.
    pub seed: u64,
    /// The files of rows and prompts that were read.
    pub inputs: Vec<ManifestFile>,
    /// The files that replaced parts of the built-in data.
    pub council: Vec<ManifestFile>,
    /// The suites that the rows were checked against.
    pub suites: Vec<ManifestFile>,
    /// The files that were written.
    pub outputs: Vec<ManifestFile>,
}

/// Where the splits of a data set are from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// They were drawn from the rows that were read and generated.
    #[default]
    Drawn,
    /// They were given, and are used as they are.
    Given,
}

/// A file that was read or written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ManifestFile {
    /// The file, as the configuration names it.
    pub file: PathBuf,
    /// The digest of its content.
    pub sha256: Digest,
    /// The number of rows or cases in it.
    pub entries: usize,
}

impl Manifest {
    /// The manifest in a folder, if there is one. A `manifest.json` of another program is none.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(folder: &Path) -> Result<Option<Manifest>> {
        let path = folder.join("manifest.json");
        match std::fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Read { path, source }),
        }
    }
}

impl ManifestFile {
    pub(crate) fn of(file: PathBuf, entries: usize) -> Result<ManifestFile> {
        Ok(ManifestFile { sha256: durable::sha256_file(&file)?, file, entries })
    }
}
