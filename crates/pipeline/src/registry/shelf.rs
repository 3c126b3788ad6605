//! The adapters of a registry, each in a folder named after its content.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use durable::Digest;

use crate::error::{Error, Result, io_error};
use crate::files::{list, listing_digest};
use crate::home::private_dir;

/// The files of an adapter, in mlx-lm's layout; sorted, since their listing is the identity.
const FILES: [&str; 2] = ["adapter_config.json", "adapters.safetensors"];

/// The folder of all adapters.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    root: PathBuf,
}

impl Shelf {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where an adapter lies, or would.
    pub fn folder(&self, adapter: Digest) -> PathBuf {
        self.root.join(adapter.to_string())
    }

    /// The adapter's folder, if its content is what its name says.
    pub fn intact(&self, adapter: Digest) -> Result<PathBuf> {
        let path = self.folder(adapter);
        let found = adapter_digest(&path)?;
        match found == adapter {
            true => Ok(path),
            false => Err(Error::Corrupt { path, expected: adapter, found }),
        }
    }

    /// All digests that have a folder.
    pub fn adapters(&self) -> Result<Vec<Digest>> {
        let digest = |path: PathBuf| path.file_name()?.to_str()?.parse().ok();
        let mut found: Vec<_> = list(&self.root)?.into_iter().filter_map(digest).collect();
        found.sort();
        Ok(found)
    }

    /// Copies an adapter next to its place and renames it there, so that a folder named by a
    /// digest is always whole.
    pub fn store(&self, dir: &Path, adapter: Digest) -> Result<()> {
        let place = self.folder(adapter);
        if place.exists() {
            match self.intact(adapter) {
                Ok(_) => return Ok(()),
                Err(error) => tracing::warn!("replaced by a sound copy: {error}"),
            }
            self.delete(adapter)?;
        }
        let shelf = &self.root;
        let draft = shelf.join(format!(".tmp-{adapter}"));
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
        fs::rename(&draft, &place).map_err(io_error(&place, "make"))?;
        // The rename lasts through a power cut only once the folder above is on disk.
        File::open(shelf).and_then(|f| f.sync_all()).map_err(io_error(shelf, "sync"))
    }

    /// All adapters but the `keep` youngest and the `protected`, oldest first.
    pub fn surplus(&self, keep: usize, protected: &[Option<Digest>]) -> Result<Vec<Digest>> {
        let mut dated = Vec::new();
        for adapter in self.adapters()? {
            let path = self.folder(adapter);
            let made = fs::metadata(&path).and_then(|m| m.modified());
            dated.push((made.unwrap_or(SystemTime::UNIX_EPOCH), adapter));
        }
        dated.sort();
        let old = dated.len().saturating_sub(keep);
        let old = dated.into_iter().take(old).map(|(_, adapter)| adapter);
        Ok(old.filter(|adapter| !protected.contains(&Some(*adapter))).collect())
    }

    /// Deletes an adapter. It loses its name first, so that none is ever half there.
    pub fn delete(&self, adapter: Digest) -> Result<()> {
        let (place, waste) = (self.folder(adapter), self.root.join(format!(".tmp-{adapter}")));
        if waste.exists() {
            fs::remove_dir_all(&waste).map_err(io_error(&waste, "delete"))?;
        }
        fs::rename(&place, &waste).map_err(io_error(&place, "delete"))?;
        fs::remove_dir_all(&waste).map_err(io_error(&waste, "delete"))
    }
}

/// The identity of an adapter folder: the digest of its `sha256sum` listing.
pub fn adapter_digest(dir: &Path) -> Result<Digest> {
    listing_digest(FILES.map(|name| dir.join(name)))
}
