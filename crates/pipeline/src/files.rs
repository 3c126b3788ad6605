//! Files and folders: read, linked, private; with errors that contain the path.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
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

/// The files below a folder, at any depth, with what the file system knows of them. Links are not followed.
pub(crate) fn below(folder: &Path) -> Result<Vec<(PathBuf, fs::Metadata)>> {
    let mut files = vec![];
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for path in list(&folder)? {
            let about = fs::symlink_metadata(&path).map_err(io_error(&path, "look at"))?;
            match about.is_dir() {
                true => folders.push(path),
                false => files.push((path, about)),
            }
        }
    }
    Ok(files)
}

/// Makes `to` a copy of the folder `from` that takes no more room: weights, which are never changed in place, are linked,
/// and other files, to which a run may append, are copied.
pub(crate) fn link_folder(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to).map_err(io_error(to, "empty"))?;
    }
    private_dir(to)?;
    for path in list(from)? {
        let name = path.file_name().unwrap_or_default();
        let place = to.join(name);
        match path.is_dir() {
            true => link_folder(&path, &place)?,
            false => link_file(&path, &place)?,
        }
    }
    Ok(())
}

/// Links a file of weights; copies another one, or one on a file system without links.
fn link_file(from: &Path, to: &Path) -> Result<()> {
    let weights = from.extension().is_some_and(|extension| extension == "safetensors");
    if weights && fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to).map(drop).map_err(io_error(to, "copy"))
}

/// Replaces the file `copy`, which has the content of `original`, by a link to it, so that the content is stored once.
/// A file system without links keeps both.
pub(crate) fn store_once(original: &Path, copy: &Path) -> io::Result<()> {
    let draft = copy.with_extension("link");
    if draft.exists() {
        fs::remove_file(&draft)?;
    }
    match fs::hard_link(original, &draft) {
        Ok(()) => fs::rename(&draft, copy),
        Err(_) => Ok(()),
    }
}

/// Creates a folder and its parents with access for the owner only.
pub(crate) fn private_dir(path: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path).map_err(io_error(path, "create the folder"))
}

/// Removes the access of group and others below `dir`, for files written by other libraries.
pub(crate) fn make_private(dir: &Path) -> Result<()> {
    for item in fs::read_dir(dir).map_err(io_error(dir, "list"))? {
        let item = item.map_err(io_error(dir, "list"))?;
        let path = item.path();
        let kind = item.file_type().map_err(io_error(&path, "read"))?;
        if kind.is_dir() {
            set_mode(&path, 0o700)?;
            make_private(&path)?;
        } else if kind.is_file() {
            set_mode(&path, 0o600)?;
        }
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(io_error(path, "make private"))
}
