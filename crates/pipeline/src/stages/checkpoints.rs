//! Checkpoints of a training run that are known to be what they were when they were written.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Result, io_error};
use crate::files::list;

/// Writes the digest of a new checkpoint beside it, as `sha256sum` does, and takes away the digests
/// of checkpoints that are gone.
pub(super) fn seal(checkpoint: &Path) -> Result<()> {
    let name = checkpoint.file_name().unwrap_or_default().to_string_lossy();
    let line = format!("{}  {name}\n", durable::sha256_file(checkpoint)?);
    durable::write(seal_of(checkpoint), line)?;
    let Some(folder) = checkpoint.parent() else { return Ok(()) };
    for path in list(folder)? {
        if path.extension().is_some_and(|e| e == "sha256") && !path.with_extension("").exists() {
            fs::remove_file(&path).map_err(io_error(&path, "remove"))?;
        }
    }
    Ok(())
}

/// Removes the checkpoints in `folder` that changed since they were sealed, or never were: training
/// goes on from the newest that is left.
pub(super) fn drop_damaged(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(vec![]);
    }
    let mut damaged = list(folder)?;
    damaged.retain(|path| path.extension().is_some_and(|e| e == "safetensors") && !is_sound(path));
    for path in &damaged {
        tracing::warn!(path = %path.display(), "dropped a damaged checkpoint");
        fs::remove_file(path).map_err(io_error(path, "remove"))?;
    }
    Ok(damaged)
}

fn is_sound(checkpoint: &Path) -> bool {
    let sealed = fs::read_to_string(seal_of(checkpoint)).unwrap_or_default();
    let sealed = sealed.split_whitespace().next().map(str::to_owned);
    let found = durable::sha256_file(checkpoint).ok().map(|digest| digest.to_string());
    found.is_some() && found == sealed
}

fn seal_of(checkpoint: &Path) -> PathBuf {
    let mut name = checkpoint.as_os_str().to_owned();
    name.push(".sha256");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_sealed_and_unchanged_stays() {
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
        let mut dropped = drop_damaged(dir.path()).unwrap();
        dropped.sort();
        assert_eq!(dropped, [path("2.safetensors"), path("3.safetensors")]);
        assert!(path("1.safetensors").exists());
        // The next seal takes the orphaned one away.
        seal(&path("1.safetensors")).unwrap();
        assert!(!path("2.safetensors.sha256").exists());
        assert!(path("1.safetensors.sha256").exists());
    }
}
