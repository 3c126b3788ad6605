use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use serde::Serialize;
use tempfile::NamedTempFile;

use crate::error::{Error, Result, io_error};

/// After this many bytes a file is synced in the background, so that the last sync finds little left to write.
const SYNC_EVERY: usize = 32 << 20;

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
    /// Bytes written since the last sync began.
    unsynced: usize,
    /// The last sync in the background.
    syncing: Option<JoinHandle<io::Result<()>>>,
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
        let (path, file) = (path.to_path_buf(), BufWriter::new(file));
        Ok(Self { path, file, unsynced: 0, syncing: None })
    }

    /// The new version as it is written so far, to be read or changed before it is committed.
    ///
    /// # Errors
    ///
    /// What is still buffered cannot be written.
    pub fn file(&mut self) -> io::Result<&mut File> {
        self.file.flush()?;
        Ok(self.file.get_mut().as_file_mut())
    }

    /// Starts a sync in the background, unless one is going on.
    fn sync_behind(&mut self) -> io::Result<()> {
        if self.syncing.as_ref().is_some_and(|syncing| !syncing.is_finished()) {
            return Ok(());
        }
        self.end_sync()?;
        let file = self.file.get_ref().as_file().try_clone()?;
        self.syncing = Some(thread::spawn(move || file.sync_data()));
        self.unsynced = 0;
        Ok(())
    }

    /// Waits for the sync in the background. The system reports a failed one only once, so its result must not be lost.
    fn end_sync(&mut self) -> io::Result<()> {
        let panicked = |_| Err(io::Error::other("the thread that syncs the file panicked"));
        self.syncing.take().map_or(Ok(()), |syncing| syncing.join().unwrap_or_else(panicked))
    }

    /// Replaces the target: flush, fsync, rename over the old file, fsync the folder.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a step fails. The target is the old version or the new one, never a mix.
    pub fn commit(mut self) -> Result<()> {
        self.end_sync().map_err(io_error(&self.path, "write"))?;
        let Self { path, file, .. } = self;
        let file = file.into_inner().map_err(|e| io_error(&path, "write")(e.into_error()))?;
        file.as_file().sync_all().map_err(io_error(&path, "write"))?;
        file.persist(&path).map_err(|e| io_error(&path, "replace the old file")(e.error))?;
        sync_folder(&path)
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if self.unsynced >= SYNC_EVERY {
            self.sync_behind()?;
        }
        Ok(written)
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
    use crate::digest;

    #[test]
    fn a_bare_file_name_lies_in_the_current_folder() {
        assert_eq!(folder(Path::new("a.json")), Path::new("."));
        assert_eq!(folder(Path::new("x/a.json")), Path::new("x"));
    }

    #[test]
    fn large_files_are_synced_as_they_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let block: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        let mut writer = Writer::create(&path).unwrap();
        (0..33).for_each(|_| writer.write_all(&block).unwrap());
        assert!(writer.syncing.is_some());
        // What is changed in place is committed too.
        writer.file().unwrap().set_len(32 << 20).unwrap();
        writer.commit().unwrap();
        assert_eq!(digest(fs::read(&path).unwrap()), digest(block.repeat(32)));
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
