//! Scheduled nights: LaunchAgents on macOS, systemd user timers on Linux.
//!
//! ```
//! use pipeline::schedule::{Schedule, System};
//!
//! let schedule = Schedule::new("/opt/nightshift/bin/nightshift", "/home/luke/sanctum/night.yaml")?;
//! for file in schedule.files(System::Systemd)? {
//!     println!("{}:\n{}", file.name, file.text);
//! }
//! # Ok::<(), pipeline::Error>(())
//! ```

mod environment;
mod launchd;
mod program_copy;
mod status;
mod system;
mod systemd;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use environment::Environment;
pub use program_copy::ProgramCopy;
pub use status::ScheduleStatus;
pub use system::{CommandOutput, CommandRunner, JobStatus, Manager, System};

use crate::error::{Error, Result, io_error};

/// The prefix of all file names and labels.
pub const LABEL: &str = "com.sanctum.master-pipeline";

/// The jobs of a night's file: which command of the program runs at which time, with which environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    program: PathBuf,
    config: PathBuf,
    environment: Environment,
}

/// A command that runs every day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Job {
    /// Added to [`LABEL`] after a dot; empty for the night.
    pub suffix: &'static str,
    /// The command.
    pub command: JobCommand,
    /// A description for the system.
    pub purpose: &'static str,
    /// When it starts.
    pub times: &'static [StartTime],
    /// Arguments after `--config FILE`.
    pub arguments: &'static [&'static str],
}

/// A time of day, local.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StartTime {
    /// Hour of the day.
    pub hour: i8,
    /// Minute of the hour.
    pub minute: i8,
}

const fn at(hour: i8, minute: i8) -> StartTime {
    StartTime { hour, minute }
}

impl Job {
    /// The job's name in the system.
    pub fn label(&self) -> String {
        match self.suffix {
            "" => LABEL.to_owned(),
            suffix => format!("{LABEL}.{suffix}"),
        }
    }
}

/// A command of the program `nightshift` that jobs run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobCommand {
    /// The night.
    Night,
    /// The checks before the night.
    Preflight,
}

impl JobCommand {
    /// The program and its first arguments: `nightshift` with a subcommand, or, for the example `nightly`, itself or the
    /// example `preflight` beside it.
    fn words(self, program: &Path) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let name = match self {
            JobCommand::Night => "night",
            JobCommand::Preflight => "preflight",
        };
        match (program_copy::companion(program), self) {
            (None, _) => vec![text(program), name.to_owned()],
            (Some(_), JobCommand::Night) => vec![text(program)],
            (Some(preflight), JobCommand::Preflight) => vec![text(&preflight)],
        }
    }
}

/// 22:00 the preflight, early enough to fix problems; 01:00 the night; 01:20, 02:20 and 03:20 the night again, in case the
/// machine was asleep at 01:00.
///
/// Invariant: one night a date, in every time zone, whatever its clocks do. At least one, because systemd skips times that
/// do not exist on a date, and no change of clocks skips both 01:00 and 03:20. At most one, because a start does nothing if
/// the last night began on the same local date and is finished (`--once-a-day`), and fails if it is running (the lock of the
/// home).
pub const JOBS: [Job; 3] = [
    Job {
        suffix: "preflight",
        command: JobCommand::Preflight,
        purpose: "the checks before the night",
        times: &[at(22, 0)],
        arguments: &["--notify"],
    },
    Job {
        suffix: "",
        command: JobCommand::Night,
        purpose: "the night",
        times: &[at(1, 0)],
        arguments: &["--once-a-day"],
    },
    Job {
        suffix: "failsafe",
        command: JobCommand::Night,
        purpose: "the night, if it did not begin",
        times: &[at(1, 20), at(2, 20), at(3, 20)],
        arguments: &["--once-a-day"],
    },
];

/// A job file of the system: a plist or a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct File {
    /// File name in the system's folder.
    pub name: String,
    /// Content.
    pub text: String,
}

impl Schedule {
    /// Runs `program` (`nightshift`, or `nightly` with `preflight` beside it; preferably a [`ProgramCopy`]) at the times of
    /// [`JOBS`] with the configuration `config`, in the configuration's folder.
    ///
    /// # Errors
    /// A path that is relative or not UTF-8. The system starts jobs from a folder of its own.
    pub fn new(program: impl Into<PathBuf>, config: impl Into<PathBuf>) -> Result<Self> {
        let absolute = |path: PathBuf| match path.is_absolute() && path.to_str().is_some() {
            true => Ok(path),
            false => Err(Error::Config {
                reason: "expected an absolute UTF-8 path for a schedule, found this one".into(),
                path,
            }),
        };
        Ok(Self {
            program: absolute(program.into())?,
            config: absolute(config.into())?,
            environment: Environment::default(),
        })
    }

    /// The same jobs with environment variables of their own.
    pub fn with_environment(self, environment: Environment) -> Self {
        Self { environment, ..self }
    }

    /// The same jobs, with the values of secrets hidden: for people and logs.
    pub fn without_secrets(self) -> Self {
        Self { environment: self.environment.without_secrets(), ..self }
    }

    /// The job files for `system`.
    pub fn files(&self, system: System) -> Result<Vec<File>> {
        match system {
            System::Launchd => launchd::files(self),
            System::Systemd => Ok(systemd::files(self)),
        }
    }

    /// The program and arguments of a job.
    fn command(&self, job: &Job) -> Vec<String> {
        let mut words = job.command.words(&self.program);
        words.extend(["--config".to_owned(), self.config.to_string_lossy().into_owned()]);
        words.extend(job.arguments.iter().map(|&word| word.to_owned()));
        words
    }

    /// The folder of the configuration, in which jobs start.
    fn folder(&self) -> &Path {
        self.config.parent().unwrap_or(Path::new("/"))
    }

    /// Writes the files into `folder` and loads them, replacing what was loaded before.
    ///
    /// # Errors
    /// A file cannot be written, or the system's program fails.
    pub fn install(&self, manager: &mut Manager<'_>, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(io_error(folder, "create the folder"))?;
        for file in self.files(manager.system())? {
            durable::write(folder.join(&file.name), file.text.as_bytes())?;
        }
        manager.load(folder)
    }
}

/// Unloads the jobs and removes their files. Needs neither program nor configuration.
///
/// # Errors
/// A file cannot be removed, or the system's program fails.
pub fn remove(manager: &mut Manager<'_>, folder: &Path) -> Result<()> {
    manager.unload()?;
    for name in file_names(manager.system()) {
        let path = folder.join(name);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(io_error(&path, "remove")(e));
            }
            _ => {}
        }
    }
    manager.reload()
}

/// The program that the installed night runs; `None` if no night is installed.
///
/// # Errors
/// A job file that cannot be read.
pub fn installed_program(system: System, folder: &Path) -> Result<Option<PathBuf>> {
    let ending = if system == System::Launchd { "plist" } else { "service" };
    let path = folder.join(format!("{LABEL}.{ending}"));
    let Some(bytes) = crate::files::read_if_there(&path)? else { return Ok(None) };
    let program = match system {
        System::Launchd => launchd::program(&bytes),
        System::Systemd => systemd::program(&String::from_utf8_lossy(&bytes)),
    };
    let reason = "expected a job that `schedule install` wrote, found another".to_owned();
    program.map(|program| Some(program.into())).ok_or(Error::Config { path, reason })
}

/// The names of the files of all jobs.
fn file_names(system: System) -> impl Iterator<Item = String> {
    let endings: &[&str] = match system {
        System::Launchd => &["plist"],
        System::Systemd => &["service", "timer"],
    };
    JOBS.iter().flat_map(|job| endings.iter().map(|ending| format!("{}.{ending}", job.label())))
}
