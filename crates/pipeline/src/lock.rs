//! The lock of a home.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Zoned;

use crate::error::{Error, Result, io_error};

/// An exclusive lock on a home. The operating system releases it when the process exits, even when
/// killed, so there is no stale lock to clean up. The text of the file only names the holder.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at `path` without waiting.
    ///
    /// # Errors
    /// [`Error::Busy`] with the holder if another process has it.
    pub fn acquire(path: &Path) -> Result<Self> {
        let mut file = open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Busy { path: path.to_path_buf(), holder: holder(file) });
            }
            Err(TryLockError::Error(source)) => return Err(io_error(path, "lock")(source)),
        }
        let now = Zoned::now();
        let now = now.strftime("%Y-%m-%d %H:%M:%S %Z");
        let note = format!("process {} since {now}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.write_all(note.as_bytes()))
            .map_err(io_error(path, "write"))?;
        Ok(Self { _file: file })
    }

    /// Takes the lock at `path`, waiting for its holder. Only for locks that are held briefly.
    pub(crate) fn wait(path: &Path) -> Result<Self> {
        let file = open(path)?;
        file.lock().map_err(io_error(path, "lock"))?;
        Ok(Self { _file: file })
    }
}

fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true).mode(0o600);
    options.open(path).map_err(io_error(path, "open"))
}

fn holder(file: File) -> String {
    let mut note = String::new();
    let read = file.take(200).read_to_string(&mut note);
    match read {
        Ok(_) if !note.trim().is_empty() => note.trim().to_owned(),
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_acquire_fails_and_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("night.lock");
        let first = Lock::acquire(&path).unwrap();
        let error = Lock::acquire(&path).unwrap_err();
        let pid = std::process::id().to_string();
        assert!(matches!(&error, Error::Busy { holder, .. } if holder.contains(&pid)), "{error}");
        drop(first);
        Lock::acquire(&path).unwrap();
    }

    #[test]
    fn the_text_left_by_a_dead_process_does_not_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("night.lock");
        std::fs::write(&path, "process 1 since yesterday").unwrap();
        Lock::acquire(&path).unwrap();
    }
}
