use std::path::Path;

use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// The bytes of the file at `path`.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Read { path: path.to_path_buf(), source })
}

/// Parses `text`, the content of `path`, as JSON.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<T> {
    serde_json::from_slice(text).map_err(|source| Error::Json { path: path.to_path_buf(), source })
}
