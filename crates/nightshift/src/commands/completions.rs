//! Prints the completions of a shell.
//!
//! ```sh
//! nightshift completions bash > ~/.local/share/bash-completion/completions/nightshift
//! ```

use clap::{Command, Parser};
use clap_complete::Shell;

use crate::Exit;

/// Prints the completions of `nightshift` for a shell.
#[derive(Parser)]
pub struct Args {
    /// The shell.
    shell: Shell,
}

/// Runs the command: prints the completions of `program`.
///
/// # Errors
/// stdout cannot be written.
pub fn run(args: Args, mut program: Command) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "nightshift", &mut script);
    out!("{}", String::from_utf8(script)?)?;
    Ok(Exit::Done)
}
