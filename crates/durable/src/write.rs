use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tempfile::NamedTempFile;

use crate::error::{Error, Result, io_error};

/// Writes a new version of a file: bytes go to a temporary file in the same folder, and [`commit`]
/// replaces the target in one step. Dropped without a commit, it removes the temporary file.
///
/// The file is readable by its owner only (mode 0600 on Unix).
///
/// [`commit`]: Writer::commit
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
}

impl Writer {
    /// Starts a new version of the file at `path`. Its folder must exist.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if no file can be created in the folder.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = tempfile::Builder::new()
            .prefix(".tmp-")
            .tempfile_in(folder(path))
            .map_err(io_error(path, "write"))?;
        Ok(Self { path: path.to_path_buf(), file: BufWriter::new(file) })
    }

    /// Replaces the target: flush, fsync, rename over the old file, fsync the folder.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a step fails. The target is the old version or the new one, never a mix.
    pub fn commit(self) -> Result<()> {
        let Self { path, file } = self;
        let file = file.into_inner().map_err(|e| io_error(&path, "write")(e.into_error()))?;
        file.as_file().sync_all().map_err(io_error(&path, "write"))?;
        file.persist(&path).map_err(|e| io_error(&path, "replace the old file")(e.error))?;
        sync_folder(&path)
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Replaces the file at `path` by `bytes`, atomically.
///
/// # Errors
///
/// [`Error::Io`] if the file cannot be written. The old file is unchanged then.
pub fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<()> {
    let path = path.as_ref();
    let mut writer = Writer::create(path)?;
    writer.write_all(bytes.as_ref()).map_err(io_error(path, "write"))?;
    writer.commit()
}

/// Replaces the file at `path` by `value` as indented JSON and a final newline, atomically.
///
/// # Errors
///
/// [`Error::Json`] if the value cannot be represented as JSON; [`Error::Io`] as for [`write()`].
pub fn write_json(path: impl AsRef<Path>, value: &impl Serialize) -> Result<()> {
    let path = path.as_ref();
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|source| Error::Json { path: path.to_path_buf(), source })?;
    bytes.push(b'\n');
    write(path, bytes)
}

/// A rename survives a power failure only once the folder is on disk too.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    if cfg!(unix) {
        let folder = File::open(folder(path)).map_err(io_error(path, "open the folder"))?;
        folder.sync_all().map_err(io_error(path, "sync the folder"))?;
    }
    Ok(())
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_bare_file_name_lies_in_the_current_folder() {
        assert_eq!(folder(Path::new("a.json")), Path::new("."));
        assert_eq!(folder(Path::new("x/a.json")), Path::new("x"));
    }

    #[test]
    fn nothing_is_left_when_a_writer_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write(&path, "old").unwrap();
        let mut writer = Writer::create(&path).unwrap();
        writer.write_all(b"half of the new").unwrap();
        drop(writer);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
