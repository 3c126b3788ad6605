//! The files that a model and an adapter consist of.

use std::path::{Path, PathBuf};

use super::weight_files::is_stray;
use crate::{Error, Result};

/// The files of the model at `path`, for instance to compute its digest: a GGUF file, with the other parts
/// if it is the first of several; or the files of a folder, sorted by name, without subfolders and files
/// that an operating system put there (`.DS_Store`, `._NAME`, `Thumbs.db`).
///
/// # Errors
/// [`Error::Read`] if the folder cannot be read; [`Error::Gguf`] for a GGUF file that is broken or whose
/// other parts are missing.
pub fn model_files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.extension().is_some_and(|extension| extension == "gguf") && path.is_file() {
        let parts = gguf::Parts::open(path)?;
        return Ok(parts.files().map(|file| file.path().to_path_buf()).collect());
    }
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let read = |source| Error::Read { path: path.to_path_buf(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(read)? {
        let entry = entry.map_err(read)?;
        if !is_stray(&entry.file_name().to_string_lossy()) && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// The digest that identifies the model at `path`: of its file, or of the `sha256sum` listing of the
/// [files](model_files) of a folder or a split model.
///
/// # Errors
/// As [`model_files`]; [`Error::Write`] if a file cannot be read.
pub fn model_digest(path: &Path) -> Result<durable::Digest> {
    Ok(match model_files(path)?.as_slice() {
        [file] if path.is_file() => durable::sha256_file(file)?,
        files => durable::listing_digest(files)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file manager that opens a folder must not make another model of it.
    #[test]
    fn files_of_an_operating_system_are_not_of_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let mut all = ["config.json", "model.safetensors", "tokenizer.json"];
        all.sort_unstable();
        for name in all.iter().chain(&[".DS_Store", "._config.json", "Thumbs.db", "desktop.ini"]) {
            std::fs::write(folder.path().join(name), "{}").unwrap();
        }
        std::fs::create_dir(folder.path().join("original")).unwrap();
        let expected: Vec<_> = all.iter().map(|name| folder.path().join(name)).collect();
        assert_eq!(model_files(folder.path()).unwrap(), expected);
        assert_eq!(model_files(&expected[0]).unwrap(), &expected[..1]);
    }
}
