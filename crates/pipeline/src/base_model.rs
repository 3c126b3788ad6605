//! The base model of a night: its path and digest.

use std::path::PathBuf;

use durable::Digest;
use serde::Serialize;

use crate::config::ModelSource;
use crate::error::Result;

/// The base model of a night, identified by its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct BaseModel {
    /// Digest of the file, or of the `sha256sum` listing of the files of a folder or a split model.
    pub sha256: Digest,
    /// Its path; not part of its identity.
    #[serde(skip)]
    pub path: PathBuf,
}

impl BaseModel {
    /// Finds the model, fetching the demo model if needed, and computes its digest.
    pub fn locate(source: &ModelSource, on_fetch: &mut dyn FnMut(u64, u64)) -> Result<Self> {
        let path = path_of(source, on_fetch)?;
        let sha256 = models::model_digest(&path)?;
        Ok(Self { sha256, path })
    }

    /// Finds the model without reading it. The digest is that of its path, which is enough for the
    /// stage keys of a preflight.
    pub fn unread(source: &ModelSource, on_fetch: &mut dyn FnMut(u64, u64)) -> Result<Self> {
        let path = path_of(source, on_fetch)?;
        Ok(Self { sha256: durable::digest(path.as_os_str().as_encoded_bytes()), path })
    }

    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }
}

fn path_of(source: &ModelSource, on_fetch: &mut dyn FnMut(u64, u64)) -> Result<PathBuf> {
    Ok(match source {
        ModelSource::Path(path) => path.clone(),
        ModelSource::Demo => fetch::demo_model(&mut |p| on_fetch(p.bytes, p.total))?,
    })
}
