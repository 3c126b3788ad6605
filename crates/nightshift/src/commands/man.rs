//! Writes the man pages of the program.
//!
//! ```sh
//! nightshift man ~/.local/share/man/man1
//! ```

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Command, Parser};

use crate::Exit;

/// Writes a man page of `nightshift` and of each command into a folder.
#[derive(Parser)]
pub struct Args {
    /// The folder; it is created if missing.
    folder: PathBuf,
}

/// Runs the command: writes the pages of `program`.
///
/// # Errors
/// The folder cannot be created, or a page cannot be written.
pub fn run(args: Args, program: Command) -> anyhow::Result<Exit> {
    write(&args.folder, program)?;
    Ok(Exit::Done)
}

/// Writes the pages of `program` into a folder.
pub(crate) fn write(folder: &Path, program: Command) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(program, folder))
        .with_context(|| format!("{}: the man pages cannot be written", folder.display()))
}
