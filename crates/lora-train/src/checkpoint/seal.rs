//! Digests beside checkpoints, to tell a damaged one before training resumes from it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Writes the SHA-256 of a checkpoint to `CHECKPOINT.sha256`, in the format of `sha256sum`, and
/// removes such files of checkpoints that no longer exist.
///
/// # Errors
/// [`Error::Write`] if the checkpoint cannot be hashed or the digest not be written,
/// [`Error::Folder`] if an old digest cannot be removed.
pub fn seal(checkpoint: impl AsRef<Path>) -> Result<()> {
    let checkpoint = checkpoint.as_ref();
    let name = checkpoint.file_name().unwrap_or_default().to_string_lossy();
    let line = format!("{}  {name}\n", durable::sha256_file(checkpoint)?);
    durable::write(digest_path(checkpoint), line)?;
    let Some(folder) = checkpoint.parent() else { return Ok(()) };
    for path in super::files(folder, "sha256")? {
        if !path.with_extension("").exists() {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes the checkpoints in `folder` whose digest is missing or does not match, so that training
/// resumes from the newest intact one. Returns the removed files; none if there is no such folder.
///
/// # Errors
/// [`Error::Read`] if the folder cannot be listed, [`Error::Folder`] if a file cannot be removed.
pub fn remove_damaged(folder: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let mut damaged = super::files(folder.as_ref(), "safetensors")?;
    damaged.retain(|path| !is_intact(path));
    for path in &damaged {
        tracing::warn!(path = %path.display(), "removed a damaged checkpoint");
        remove(path)?;
    }
    Ok(damaged)
}

fn is_intact(checkpoint: &Path) -> bool {
    let sealed = fs::read_to_string(digest_path(checkpoint)).unwrap_or_default();
    let sealed = sealed.split_whitespace().next().map(str::to_owned);
    let found = durable::sha256_file(checkpoint).ok().map(|digest| digest.to_string());
    found.is_some() && found == sealed
}

fn digest_path(checkpoint: &Path) -> PathBuf {
    let mut name = checkpoint.as_os_str().to_owned();
    name.push(".sha256");
    name.into()
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(|source| Error::Folder { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sealed_and_unchanged_checkpoints_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for (name, sealed) in [("1", true), ("2", true), ("3", false)] {
            let path = path(&format!("{name}.safetensors"));
            fs::write(&path, name).unwrap();
            if sealed {
                seal(&path).unwrap();
            }
        }
        fs::write(path("2.safetensors"), "flipped").unwrap();
        let mut removed = remove_damaged(dir.path()).unwrap();
        removed.sort();
        assert_eq!(removed, [path("2.safetensors"), path("3.safetensors")]);
        assert!(path("1.safetensors").exists());
        // Sealing again removes the digest without a checkpoint.
        seal(path("1.safetensors")).unwrap();
        assert!(!path("2.safetensors.sha256").exists());
        assert!(path("1.safetensors.sha256").exists());
    }
}
