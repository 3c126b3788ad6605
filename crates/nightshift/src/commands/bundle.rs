//! Makes a folder of the program and everything that it needs, for another machine of this kind.
//!
//! ```sh
//! nightshift bundle nightshift-linux-x86_64 && tar czf nightshift-linux-x86_64.tar.gz nightshift-linux-x86_64
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Command, Parser, ValueEnum as _};
use clap_complete::Shell;
use pipeline::schedule::ProgramCopy;

use super::man;
use crate::Exit;

/// Copies the program, MLX's libraries, man pages and completions into a new folder that starts on other machines of this kind.
///
/// The folder has `bin`, `lib`, `site` (MLX and, on Linux, OpenBLAS) and `share`, and may be moved as a whole. On Linux the
/// other machine needs a glibc of at least 2.35 and libstdc++, on a Mac macOS 15.
#[derive(Parser)]
pub struct Args {
    /// The folder; it must not exist.
    folder: PathBuf,
}

/// Runs the command. `program` is the command line whose pages and completions are written.
///
/// # Errors
/// The folder exists or cannot be written, or the copy does not start.
pub fn run(args: Args, program: Command) -> anyhow::Result<Exit> {
    let Args { folder } = args;
    if folder.exists() {
        anyhow::bail!("{}: expected a folder that does not exist, found one", folder.display());
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    let scratch = tempfile::tempdir_in(parent.unwrap_or(Path::new(".")))?;
    let own = std::env::current_exe().context("the path of this program")?;
    let copy = ProgramCopy::plan(&own, &scratch.path().join("program"))?;
    copy.make()?;
    let program_made = copy.program();
    let made = program_made.ancestors().nth(2).context("the folder of the copy")?;
    let starts = program_made.strip_prefix(made).unwrap_or(&program_made).display().to_string();
    man::write(&made.join("share/man/man1"), program.clone())?;
    completions(&made.join("share/completions"), program)?;
    readable_by_all(made)
        .and_then(|()| fs::rename(made, &folder))
        .with_context(|| format!("{}: cannot be written", folder.display()))?;
    errln!("{}: starts as {starts}", folder.display());
    Ok(Exit::Done)
}

/// Writes the completions of every shell into a folder.
fn completions(folder: &Path, mut program: Command) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for shell in Shell::value_variants() {
        clap_complete::generate_to(*shell, &mut program, "nightshift", folder)
            .with_context(|| folder.display().to_string())?;
    }
    Ok(())
}

/// Lets everybody read the folder: a copy of one's own is private, a package is not.
fn readable_by_all(path: &Path) -> io::Result<()> {
    let mode = path.metadata()?.permissions().mode();
    let everybody = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
    fs::set_permissions(path, fs::Permissions::from_mode(everybody))?;
    if !path.is_dir() {
        return Ok(());
    }
    fs::read_dir(path)?.try_for_each(|item| readable_by_all(&item?.path()))
}
