//! The program `nightshift`: one command for each step of a night, and for its owner's work around it.
//!
//! Each command is a module of [`commands`] with its `Args` and `run`. [`program`] makes a program of one of them, as
//! the workspace's examples are; the program `nightshift` has all of them as subcommands ([`Nightshift`]).

#![deny(missing_docs, clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
mod output;
mod cli;
pub mod commands;
mod doctor;
mod exit;
mod help;
mod home;
mod logs;
mod model;
mod night_file;
mod progress;
mod schedule_advice;
mod signals;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};

pub use cli::{Nightshift, run};
pub use exit::Exit;

pub(crate) use logs::{log_to, show_warnings};
pub(crate) use model::ModelArgs;
pub(crate) use night_file::given_or_demo;
pub(crate) use output::table;

use exit::finish;

/// The command line of `nightshift`, with exit codes and environment variables at the end of each `--help`.
pub fn command() -> clap::Command {
    help::with_notes(Nightshift::command())
}

/// Parses the arguments of this process, runs the command, and returns its exit code.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     nightshift::program(nightshift::commands::gate::run)
/// }
/// ```
pub fn program<A: Parser>(run: impl FnOnce(A) -> anyhow::Result<Exit>) -> ExitCode {
    let matches = help::with_notes(A::command()).get_matches();
    match A::from_arg_matches(&matches) {
        Ok(args) => finish(run(args)),
        Err(error) => error.exit(),
    }
}
