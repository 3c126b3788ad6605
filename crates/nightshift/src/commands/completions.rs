//! Prints the completions of a shell.
//!
//! ```sh
//! nightshift completions bash > ~/.local/share/bash-completion/completions/nightshift
//! ```

use clap::{CommandFactory, Parser};
use clap_complete::Shell;

use crate::{Exit, Nightshift};

/// Prints the completions of `nightshift` for a shell.
#[derive(Parser)]
pub struct Args {
    /// The shell.
    shell: Shell,
}

/// Runs the command.
///
/// # Errors
/// stdout cannot be written.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Nightshift::command(), "nightshift", &mut script);
    out!("{}", String::from_utf8(script)?)?;
    Ok(Exit::Done)
}
