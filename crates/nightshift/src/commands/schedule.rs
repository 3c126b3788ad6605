//! Has the machine check everything at ten and start a night at one: LaunchAgents on macOS, user timers on
//! Linux.
//!
//! ```sh
//! cargo build --release --example nightly --example preflight
//! nightshift schedule install --config ~/sanctum/night.yaml
//! nightshift schedule status --config ~/sanctum/night.yaml
//! ```
//!
//! Exit codes: 0 done, 1 `status` found a job that is not loaded, 2 bad input.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};
use pipeline::NightFile;
use pipeline::config::ModelChoice;
use pipeline::schedule::{Manager, Schedule, System};
use serde_json::json;

use crate::Exit;

/// Schedules nightly runs.
#[derive(Parser)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// The configuration file.
    #[arg(long, global = true, default_value = "night.yaml")]
    config: PathBuf,
    /// The `nightly` program, with `preflight` in the same folder; without it, those in the folder of
    /// this program.
    #[arg(long, global = true)]
    program: Option<PathBuf>,
    /// Print one JSON object on stdout.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Write the job files and load them.
    Install,
    /// Unload the jobs and remove their files.
    Remove,
    /// Print the files that `install` would write.
    Print,
    /// Show which jobs the system has loaded.
    Status,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    // An invalid configuration would fail every night, so it is not scheduled.
    NightFile::load(&args.config)?.choose(&ModelChoice::Default)?.check()?;
    let schedule = Schedule::new(program(&args)?, args.config.canonicalize()?)?;
    let mut manager = Manager::current();
    let system = manager.system();
    let folder = system.folder().context("this user has no home folder")?;
    match args.command {
        Command::Install => schedule.install(&mut manager, &folder)?,
        Command::Remove => schedule.remove(&mut manager, &folder)?,
        Command::Print => {
            print(&schedule, system, args.json)?;
            return Ok(Exit::Done);
        }
        Command::Status => {}
    }
    let status = manager.status(schedule.jobs())?;
    if args.json {
        outln!("{}", json!({ "system": system, "folder": folder, "jobs": status }))?;
    }
    for job in &status {
        errln!("{:<40} {}", job.label, job.detail);
    }
    let missing = status.iter().any(|job| !job.loaded);
    Ok(match args.command {
        Command::Status if missing => Exit::No,
        _ => Exit::Done,
    })
}

fn program(args: &Args) -> anyhow::Result<PathBuf> {
    let program = match &args.program {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.with_file_name("nightly"),
    };
    for program in [&program, &program.with_file_name("preflight")] {
        let missing =
            || format!("{}: build it first, or name it with --program", program.display());
        program.metadata().with_context(missing)?;
    }
    Ok(program.canonicalize()?)
}

fn print(schedule: &Schedule, system: System, as_json: bool) -> anyhow::Result<()> {
    let files = schedule.files(system)?;
    if as_json {
        outln!("{}", json!({ "system": system, "files": files }))?;
        return Ok(());
    }
    for file in files {
        outln!("# {}\n{}", file.name, file.text)?;
    }
    Ok(())
}
