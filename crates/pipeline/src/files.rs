//! Reading files and folders, with errors that contain the path.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::error::{Result, io_error};

/// The content of a file; `None` if it does not exist.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_error(path, "read")(e)),
    }
}

/// The paths in a folder, sorted.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let items = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let items = items.map_err(io_error(folder, "list"))?;
    let mut paths: Vec<_> = items.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    Ok(paths)
}
