//! Has the machine check everything at ten and start a night at one: LaunchAgents on macOS, user timers on
//! Linux.
//!
//! ```sh
//! nightshift schedule install --config ~/sanctum/night.yaml
//! nightshift schedule status
//! ```
//!
//! Exit codes: 0 done, 1 `status` found a job that is not loaded, 2 bad input.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Parser, Subcommand};
use pipeline::NightFile;
use pipeline::config::ModelChoice;
use pipeline::schedule::{self, Environment, Manager, ProgramCopy, Schedule, System};
use serde_json::json;

use crate::Exit;
use crate::schedule_advice::advice;

/// Schedules nightly runs.
#[derive(Parser)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// The configuration file, for `install` and `print`.
    #[arg(long, global = true, default_value = "night.yaml")]
    config: PathBuf,
    /// The program of which `install` makes a copy: `nightshift`, or the example `nightly` with `preflight` in the same
    /// folder; without it, this one, or the examples beside it.
    #[arg(long, global = true)]
    program: Option<PathBuf>,
    /// Print one JSON object on stdout.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Copy the program with its libraries, write the job files, and load them.
    Install,
    /// Unload the jobs, and remove their files and the program's copies.
    Remove,
    /// Print the files that `install` would write, without the values of secrets.
    Print,
    /// Show which jobs the system has loaded.
    Status,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    let mut manager = Manager::current();
    let system = manager.system();
    let folder = system.folder().context("this user has no home folder")?;
    match args.command {
        Command::Install => install(&args, &mut manager, &folder)?,
        Command::Remove => {
            schedule::remove(&mut manager, &folder)?;
            remove_copies(&copies()?)?;
        }
        Command::Print => {
            print(planned(&args.config, args.program.as_deref())?, system, args.json)?;
            return Ok(Exit::Done);
        }
        Command::Status => {}
    }
    let status = manager.status()?;
    let lingers = manager.lingers();
    if args.json {
        let status = json!({ "system": system, "folder": folder, "jobs": status, "runs_without_login": lingers });
        outln!("{status}")?;
    }
    for job in &status {
        errln!("{:<40} {}", job.label, job.detail);
    }
    let loaded = status.iter().filter(|job| job.loaded).count();
    if let Some(advice) = advice(system, lingers).filter(|_| loaded > 0) {
        errln!("{advice}");
    }
    Ok(match args.command {
        Command::Status if loaded < status.len() => Exit::No,
        _ => Exit::Done,
    })
}

fn install(args: &Args, manager: &mut Manager<'_>, folder: &Path) -> anyhow::Result<()> {
    // An invalid configuration would fail every night, so it is not scheduled.
    NightFile::load(&args.config)?.choose(&ModelChoice::from_env())?.check()?;
    let copy = copy(args.program.as_deref())?;
    copy.make()?;
    let environment = environment()?;
    for (name, value) in environment.without_secrets().iter() {
        errln!("the jobs get {name}={value}");
    }
    let schedule = Schedule::new(copy.program(), args.config.canonicalize()?)?;
    schedule.with_environment(environment).install(manager, folder)?;
    errln!("the jobs run {}", copy.program().display());
    copy.remove_older()?;
    Ok(())
}

/// The schedule that `install` would create.
pub(crate) fn planned(config: &Path, program: Option<&Path>) -> pipeline::Result<Schedule> {
    let config = config.canonicalize().map_err(problem(config))?;
    Ok(Schedule::new(copy(program)?.program(), config)?.with_environment(environment()?))
}

fn environment() -> pipeline::Result<Environment> {
    Environment::of(std::env::vars_os())
}

fn copies() -> pipeline::Result<PathBuf> {
    ProgramCopy::default_root()
        .ok_or_else(|| problem(Path::new("schedule"))("this user has no data folder"))
}

fn copy(program: Option<&Path>) -> pipeline::Result<ProgramCopy> {
    let program = match program {
        Some(program) => program.to_path_buf(),
        None => this_program()?,
    };
    ProgramCopy::plan(&program, &copies()?)
}

/// `nightshift`, if this is it; for the example `schedule`, the example `nightly`.
fn this_program() -> pipeline::Result<PathBuf> {
    let program = std::env::current_exe().map_err(problem(Path::new("nightshift")))?;
    if program.file_stem().is_some_and(|name| name == "nightshift") {
        return Ok(program);
    }
    let nightly = program.with_file_name("nightly");
    for built in [&nightly, &nightly.with_file_name("preflight")] {
        if !built.is_file() {
            let missing = "expected the program; build it first, or name it with --program";
            return Err(problem(built)(missing));
        }
    }
    Ok(nightly)
}

/// An error about a path.
fn problem<E: ToString>(path: &Path) -> impl FnOnce(E) -> pipeline::Error {
    let path = path.to_path_buf();
    move |reason| pipeline::Error::Config { path, reason: reason.to_string() }
}

fn remove_copies(root: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(root) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: cannot remove", root.display()))
        }
        _ => Ok(()),
    }
}

fn print(schedule: Schedule, system: System, as_json: bool) -> anyhow::Result<()> {
    let files = schedule.without_secrets().files(system)?;
    if as_json {
        return outln!("{}", json!({ "system": system, "files": files }));
    }
    for file in files {
        outln!("# {}\n{}", file.name, file.text)?;
    }
    Ok(())
}
