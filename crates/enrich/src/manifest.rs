//! The manifest of a data set.

use std::path::PathBuf;

use durable::Digest;
use serde::Serialize;

use crate::{Recipe, Result};

/// Manifest written next to a data set: enough to tell whether two data sets are identical.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Manifest {
    /// The version of this crate.
    pub version: &'static str,
    /// The recipe.
    pub recipe: Recipe,
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

/// A file that was read or written.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ManifestFile {
    /// The file, as the configuration names it.
    pub file: PathBuf,
    /// The digest of its content.
    pub sha256: Digest,
    /// The number of rows or cases in it.
    pub entries: usize,
}

impl ManifestFile {
    pub(crate) fn of(file: PathBuf, entries: usize) -> Result<ManifestFile> {
        Ok(ManifestFile { sha256: durable::sha256_file(&file)?, file, entries })
    }
}
