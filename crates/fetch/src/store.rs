//! A folder of fetched artefacts.

use std::{
    env,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::{Artefact, Error, Progress, Result, Split, archive, error::io_error, pip};

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
        let folder = self.folder_of(artefact);
        if is_complete(artefact, &folder)? {
            return Ok(folder);
        }
        let _lock = self.lock()?;
        self.fetch_locked(artefact, progress)
    }

    /// The path of a file in several artefacts, which are downloaded first if it is not there.
    ///
    /// As [`fetch`](Self::fetch); an interrupted download goes on with the next part.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    pub fn fetch_split(&self, file: &Split, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf> {
        let path = self.folder.join(file.name);
        if has_digest(&path, file.sha256)? {
            return Ok(path);
        }
        let _lock = self.lock()?;
        if has_digest(&path, file.sha256)? {
            return Ok(path); // another process has fetched it
        }
        let total = file.parts.iter().map(|part| part.bytes).sum();
        let (mut before, mut folders) = (0, Vec::new());
        for part in file.parts {
            let mut add = |now: Progress| progress(Progress { bytes: before + now.bytes, total });
            folders.push(self.fetch_locked(part, &mut add)?);
            before += part.bytes;
        }
        let mut whole = durable::Writer::create(&path)?;
        for (part, folder) in file.parts.iter().zip(&folders) {
            let Some(member) = part.members.first() else { continue };
            let member = folder.join(member.name());
            let mut content = File::open(&member).map_err(io_error(&member, "open"))?;
            io::copy(&mut content, &mut whole).map_err(io_error(&path, "write"))?;
        }
        whole.commit()?;
        verify(&path, file.sha256)?;
        for folder in folders {
            fs::remove_dir_all(&folder).map_err(io_error(&folder, "remove the folder"))?;
        }
        Ok(path)
    }

    /// As [`fetch`](Self::fetch), with the lock held.
    fn fetch_locked(
        &self,
        artefact: &Artefact,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<PathBuf> {
        let folder = self.folder_of(artefact);
        if is_complete(artefact, &folder)? {
            return Ok(folder); // another process has fetched it
        }
        fs::create_dir_all(&folder).map_err(io_error(&folder, "create the folder"))?;
        let archive = self.archive(artefact, progress)?;
        archive::unpack(&archive, artefact.members, &folder)?;
        for member in artefact.members {
            verify(&folder.join(member.name()), member.sha256)?;
        }
        // All members are unpacked.
        fs::remove_file(&archive).map_err(io_error(&archive, "remove the archive"))?;
        Ok(folder)
    }

    fn folder_of(&self, artefact: &Artefact) -> PathBuf {
        self.folder.join(format!("{}-{}", artefact.package, artefact.version))
    }

    /// Locks the folder, which is created if it does not exist, until the returned file is closed. The
    /// lock is released when the process exits.
    fn lock(&self) -> Result<File> {
        fs::create_dir_all(&self.folder).map_err(io_error(&self.folder, "create the folder"))?;
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
        if !has_digest(&folder.join(member.name()), member.sha256)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether there is a file at `path` with this digest.
fn has_digest(path: &Path, expected: &str) -> Result<bool> {
    Ok(path.is_file() && durable::sha256_file(path)?.to_string() == expected)
}

fn verify(path: &Path, expected: &'static str) -> Result<()> {
    let found = durable::sha256_file(path)?;
    if found.to_string() == expected {
        return Ok(());
    }
    Err(Error::Mismatch { path: path.to_path_buf(), expected, found })
}
