//! Nights that begin by themselves: a LaunchAgent on macOS, systemd user timers on Linux.
//!
//! ```
//! use pipeline::schedule::{Schedule, System};
//!
//! let schedule = Schedule::new("/opt/nightshift/nightly", "/home/luke/sanctum/night.yaml")?;
//! for file in schedule.files(System::Systemd)? {
//!     println!("{}:\n{}", file.name, file.text);
//! }
//! # Ok::<(), pipeline::Error>(())
//! ```

mod launchd;
mod system;
mod systemd;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use system::{Loaded, Manager, Run, System, Tool};

use crate::error::{Error, Result, io_error};

/// The name that every file and label of a schedule begins with.
pub const LABEL: &str = "com.sanctum.master-pipeline";

/// What runs when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    program: PathBuf,
    config: PathBuf,
    jobs: [Job; 3],
}

/// One program at one time of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Job {
    /// What is added to [`LABEL`]; empty for the night itself.
    pub suffix: &'static str,
    /// Which program it runs.
    pub program: Program,
    /// What it is for.
    pub purpose: &'static str,
    /// The hour, local time.
    pub hour: i8,
    /// The minute.
    pub minute: i8,
    /// What the program is told beside its configuration.
    pub arguments: &'static [&'static str],
}

impl Job {
    /// The job's name to the system.
    pub fn label(&self) -> String {
        match self.suffix {
            "" => LABEL.to_owned(),
            suffix => format!("{LABEL}.{suffix}"),
        }
    }
}

/// The programs of a schedule, which lie in one folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// The night.
    Nightly,
    /// The checks before it.
    Preflight,
}

/// At ten in the evening everything that the night will need, while there is time to mend it. At one
/// the night; at twenty past, what a machine that slept through it missed. `--once-a-day` and the
/// lock of the home make the second harmless.
const JOBS: [Job; 3] = [
    Job {
        suffix: "preflight",
        program: Program::Preflight,
        purpose: "the checks before the night",
        hour: 22,
        minute: 0,
        arguments: &["--notify"],
    },
    Job {
        suffix: "",
        program: Program::Nightly,
        purpose: "the night",
        hour: 1,
        minute: 0,
        arguments: &["--once-a-day"],
    },
    Job {
        suffix: "failsafe",
        program: Program::Nightly,
        purpose: "the night, if it did not begin",
        hour: 1,
        minute: 20,
        arguments: &["--once-a-day"],
    },
];

/// A file that a system reads its jobs from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// Its name in the system's folder.
    pub name: String,
    /// Its content.
    pub text: String,
}

impl Schedule {
    /// `program` (the `nightly` example) at one in the morning with the configuration `config`, and
    /// the `preflight` beside it at ten in the evening.
    ///
    /// # Errors
    /// Either path is relative, or not UTF-8: a system starts jobs from a folder of its own.
    pub fn new(program: impl Into<PathBuf>, config: impl Into<PathBuf>) -> Result<Self> {
        let absolute = |path: PathBuf| match path.is_absolute() && path.to_str().is_some() {
            true => Ok(path),
            false => Err(Error::Config {
                reason: "expected an absolute path in UTF-8, for a schedule".into(),
                path,
            }),
        };
        Ok(Self {
            program: absolute(program.into())?,
            config: absolute(config.into())?,
            jobs: JOBS,
        })
    }

    /// The jobs, from evening to morning.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// The files that `system` reads its jobs from.
    pub fn files(&self, system: System) -> Result<Vec<File>> {
        match system {
            System::Launchd => launchd::files(self),
            System::Systemd => Ok(systemd::files(self)),
        }
    }

    /// The words of a job's command line.
    fn command(&self, job: &Job) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let program = match job.program {
            Program::Nightly => self.program.clone(),
            Program::Preflight => self.program.with_file_name("preflight"),
        };
        let mut words = vec![text(&program), "--config".to_owned(), text(&self.config)];
        words.extend(job.arguments.iter().map(|&word| word.to_owned()));
        words
    }

    /// Where the configuration lies; jobs start there.
    fn folder(&self) -> &Path {
        self.config.parent().unwrap_or(Path::new("/"))
    }

    /// Writes the files into `folder` and has the system load them; what was loaded before is
    /// replaced, so that doing it twice is doing it once.
    pub fn install(&self, manager: &mut Manager<'_>, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(io_error(folder, "make the folder"))?;
        for file in self.files(manager.system())? {
            durable::write(folder.join(&file.name), file.text.as_bytes())?;
        }
        manager.load(&self.jobs, folder)
    }

    /// Has the system forget the jobs, and removes their files.
    pub fn remove(&self, manager: &mut Manager<'_>, folder: &Path) -> Result<()> {
        manager.unload(&self.jobs)?;
        for file in self.files(manager.system())? {
            let path = folder.join(&file.name);
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io_error(&path, "remove")(e));
                }
                _ => {}
            }
        }
        manager.reload()
    }
}
