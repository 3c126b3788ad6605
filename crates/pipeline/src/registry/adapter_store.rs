//! The adapters of a registry, each in a folder named by its digest.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use durable::Digest;

use crate::error::{Error, Result, io_error};
use crate::files;
use crate::files::private_dir;

/// The files of an adapter in the layout of mlx-lm; sorted, as the digest depends on their order.
const FILES: [&str; 2] = ["adapter_config.json", "adapters.safetensors"];

/// The folder with all adapters.
#[derive(Debug, Clone)]
pub(super) struct AdapterStore {
    root: PathBuf,
}

impl AdapterStore {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder of an adapter, whether it exists or not.
    pub fn folder(&self, adapter: Digest) -> PathBuf {
        self.root.join(adapter.to_string())
    }

    /// The folder of an adapter, if its content matches the digest.
    pub fn intact(&self, adapter: Digest) -> Result<PathBuf> {
        let path = self.folder(adapter);
        let found = adapter_digest(&path)?;
        match found == adapter {
            true => Ok(path),
            false => Err(Error::Corrupt { path, expected: adapter, found }),
        }
    }

    /// The digests of all adapters, sorted.
    pub fn list(&self) -> Result<Vec<Digest>> {
        let digest = |path: PathBuf| path.file_name()?.to_str()?.parse().ok();
        let mut found: Vec<_> = files::list(&self.root)?.into_iter().filter_map(digest).collect();
        found.sort();
        Ok(found)
    }

    /// Copies an adapter into a temporary folder and renames that, so that a folder named by a digest
    /// is always complete.
    pub fn store(&self, dir: &Path, adapter: Digest) -> Result<()> {
        let place = self.folder(adapter);
        if place.exists() {
            match self.intact(adapter) {
                Ok(_) => return Ok(()),
                Err(error) => tracing::warn!("replacing a damaged adapter: {error}"),
            }
            self.delete(adapter)?;
        }
        let root = &self.root;
        let draft = root.join(format!(".tmp-{adapter}"));
        if draft.exists() {
            fs::remove_dir_all(&draft).map_err(io_error(&draft, "empty"))?;
        }
        private_dir(&draft)?;
        for name in FILES {
            let from = dir.join(name);
            let mut source = File::open(&from).map_err(io_error(&from, "read"))?;
            let mut copy = durable::Writer::create(draft.join(name))?;
            io::copy(&mut source, &mut copy).map_err(io_error(&draft.join(name), "write"))?;
            copy.commit()?;
        }
        fs::rename(&draft, &place).map_err(io_error(&place, "create"))?;
        // The rename survives a power cut only once the parent folder is synced.
        File::open(root).and_then(|f| f.sync_all()).map_err(io_error(root, "sync"))
    }

    /// All adapters except the `keep` newest and the `protected`, oldest first.
    pub fn surplus(&self, keep: usize, protected: &BTreeSet<Digest>) -> Result<Vec<Digest>> {
        let mut dated = Vec::new();
        for adapter in self.list()? {
            let path = self.folder(adapter);
            let made = fs::metadata(&path).and_then(|m| m.modified());
            dated.push((made.unwrap_or(SystemTime::UNIX_EPOCH), adapter));
        }
        dated.sort();
        let old = dated.len().saturating_sub(keep);
        let old = dated.into_iter().take(old).map(|(_, adapter)| adapter);
        Ok(old.filter(|adapter| !protected.contains(adapter)).collect())
    }

    /// Deletes an adapter. It is renamed first, so that a folder named by a digest is always complete.
    pub fn delete(&self, adapter: Digest) -> Result<()> {
        let (place, waste) = (self.folder(adapter), self.root.join(format!(".tmp-{adapter}")));
        if waste.exists() {
            fs::remove_dir_all(&waste).map_err(io_error(&waste, "delete"))?;
        }
        fs::rename(&place, &waste).map_err(io_error(&place, "delete"))?;
        fs::remove_dir_all(&waste).map_err(io_error(&waste, "delete"))
    }
}

/// The digest of the adapter in `dir`: the SHA-256 of its `sha256sum` listing.
///
/// # Errors
/// A file of the adapter cannot be read.
pub fn adapter_digest(dir: &Path) -> Result<Digest> {
    Ok(durable::listing_digest(&FILES.map(|name| dir.join(name)))?)
}
