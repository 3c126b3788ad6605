use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result, io_error};
use crate::write::sync_folder;

/// Appends one line to the log at `path` and waits until it is on disk. A missing file is created,
/// readable by its owner only.
///
/// A crash can leave at most one incomplete line, the last, without its newline; readers drop it. If
/// the log ends in an incomplete line, the new record starts on a new line.
///
/// # Errors
///
/// [`Error::LineBreak`] if `line` contains a line break; [`Error::Io`] if the file cannot be written.
pub fn append_line(path: impl AsRef<Path>, line: &str) -> Result<()> {
    let path = path.as_ref();
    if let Some(at) = line.find(['\n', '\r']) {
        return Err(Error::LineBreak { path: path.to_path_buf(), at });
    }
    let is_new = !path.exists();
    let mut options = OpenOptions::new();
    options.create(true).append(true).read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(io_error(path, "open"))?;
    let torn = ends_torn(&mut file).map_err(io_error(path, "read"))?;
    // One write call, so that the records of two writers do not interleave.
    let record = format!("{}{line}\n", if torn { "\n" } else { "" });
    file.write_all(record.as_bytes()).map_err(io_error(path, "append"))?;
    file.sync_all().map_err(io_error(path, "append"))?;
    if is_new { sync_folder(path) } else { Ok(()) }
}

fn ends_torn(file: &mut std::fs::File) -> std::io::Result<bool> {
    use std::io::{Read, Seek, SeekFrom};
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}
