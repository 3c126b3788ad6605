//! A folder of fetched artefacts.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
};

use crate::{Artefact, Error, Progress, Result, archive, error::io_error, pip};

/// A cache folder in which every artefact is complete and verified, or absent.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The user's store: `$NIGHTSHIFT_CACHE/artefacts`, or `nightshift/artefacts` in the user's cache
    /// folder.
    ///
    /// # Errors
    ///
    /// [`Error::NoCacheFolder`] if neither is known.
    pub fn of_user() -> Result<Self> {
        let chosen = env::var_os("NIGHTSHIFT_CACHE").filter(|value| !value.is_empty());
        let cache = match chosen {
            Some(folder) => PathBuf::from(folder),
            None => dirs::cache_dir().ok_or(Error::NoCacheFolder)?.join("nightshift"),
        };
        Ok(Self::at(cache.join("artefacts")))
    }

    /// The store in `folder`.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder with the artefact's members, which are downloaded first if they are not there.
    ///
    /// Needs no network if they are. If several processes ask at once, one downloads and the others
    /// wait for it.
    ///
    /// # Errors
    ///
    /// A failed download, a file with another hash than the pinned one, and a cache folder that
    /// cannot be used. Each message says what to do.
    pub fn fetch(
        &self,
        artefact: &Artefact,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<PathBuf> {
        let folder = self.folder.join(format!("{}-{}", artefact.package, artefact.version));
        if is_complete(artefact, &folder)? {
            return Ok(folder);
        }
        fs::create_dir_all(&folder).map_err(io_error(&folder, "create the folder"))?;
        let _lock = self.lock()?;
        if is_complete(artefact, &folder)? {
            return Ok(folder); // another process has fetched it
        }
        let archive = self.archive(artefact, progress)?;
        archive::unpack(&archive, artefact.members, &folder)?;
        for member in artefact.members {
            verify(&folder.join(member.name()), member.sha256)?;
        }
        // All members are unpacked.
        fs::remove_file(&archive).map_err(io_error(&archive, "remove the archive"))?;
        Ok(folder)
    }

    /// Locks the folder until the returned file is closed. The lock is released when the process exits.
    fn lock(&self) -> Result<File> {
        let path = self.folder.join("lock");
        let file = File::create(&path).map_err(io_error(&path, "create the lock"))?;
        file.lock().map_err(io_error(&path, "take the lock"))?;
        Ok(file)
    }

    /// A verified copy of the artefact's file: one that the user put there, or a new download.
    fn archive(&self, artefact: &Artefact, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf> {
        let kept = self.folder.join(artefact.file);
        if kept.is_file() {
            match verify(&kept, artefact.sha256) {
                Ok(()) => return Ok(kept),
                Err(error) => {
                    tracing::warn!(%error, "a file in the cache has another hash than the pinned one; downloading it again")
                }
            }
        }
        let partial = tempfile::Builder::new()
            .prefix("partial-")
            .tempdir_in(&self.folder)
            .map_err(io_error(&self.folder, "create a folder"))?;
        let fetched = pip::download(artefact, partial.path(), &self.folder, progress)?;
        verify(&fetched, artefact.sha256)?;
        fs::rename(&fetched, &kept).map_err(io_error(&kept, "move the download"))?;
        Ok(kept)
    }
}

fn is_complete(artefact: &Artefact, folder: &Path) -> Result<bool> {
    for member in artefact.members {
        let path = folder.join(member.name());
        if !path.is_file() || durable::sha256_file(&path)?.to_string() != member.sha256 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn verify(path: &Path, expected: &'static str) -> Result<()> {
    let found = durable::sha256_file(path)?;
    if found.to_string() == expected {
        return Ok(());
    }
    Err(Error::Mismatch { path: path.to_path_buf(), expected, found })
}
