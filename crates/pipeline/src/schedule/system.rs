//! Loads and unloads jobs through `launchctl` or `systemctl --user`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use super::{JOBS, Job};
use crate::error::{Error, Result};

/// The job scheduler of an operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum System {
    /// macOS: LaunchAgents of the user.
    Launchd,
    /// Linux: units of the user.
    Systemd,
}

impl System {
    /// The scheduler of this machine.
    pub fn current() -> Self {
        if cfg!(target_os = "macos") { Self::Launchd } else { Self::Systemd }
    }

    /// The folder of the user's job files; `None` if the user has no home folder.
    pub fn folder(self) -> Option<PathBuf> {
        match self {
            System::Launchd => dirs::home_dir().map(|home| home.join("Library/LaunchAgents")),
            System::Systemd => dirs::config_dir().map(|config| config.join("systemd/user")),
        }
    }
}

/// The state of a job in the system, independent of the files on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct JobStatus {
    /// The job's name.
    pub label: String,
    /// Whether the system has loaded it.
    pub loaded: bool,
    /// The next start on systemd, the state on launchd.
    #[serde(rename = "says")]
    pub detail: String,
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutput {
    /// Whether the exit status is 0.
    pub success: bool,
    /// stdout, then stderr.
    pub output: String,
}

/// Runs a program with arguments.
pub type CommandRunner<'a> = dyn FnMut(&str, &[&str]) -> io::Result<CommandOutput> + 'a;

/// Controls a [`System`] through its program: `launchctl` or `systemctl --user`.
pub struct Manager<'a> {
    system: System,
    run: Box<CommandRunner<'a>>,
}

impl Manager<'static> {
    /// The manager of this machine's system.
    pub fn current() -> Self {
        Self::with(System::current(), |program, arguments| {
            let output = Command::new(program).args(arguments).output()?;
            let text = [output.stdout, output.stderr].concat();
            let output_text = String::from_utf8_lossy(&text).into_owned();
            Ok(CommandOutput { success: output.status.success(), output: output_text })
        })
    }
}

impl<'a> Manager<'a> {
    /// A manager that runs commands through `run`, for tests.
    pub fn with(
        system: System,
        run: impl FnMut(&str, &[&str]) -> io::Result<CommandOutput> + 'a,
    ) -> Manager<'a> {
        Manager { system, run: Box::new(run) }
    }

    /// The system.
    pub fn system(&self) -> System {
        self.system
    }

    /// The state of each job.
    ///
    /// # Errors
    /// The system's program fails.
    pub fn status(&mut self) -> Result<Vec<JobStatus>> {
        JOBS.iter()
            .map(|job| match self.system {
                System::Launchd => self.agent(job),
                System::Systemd => self.timer(job),
            })
            .collect()
    }

    /// Whether the user's jobs also run while nobody is logged in; `None` if the system does not say. LaunchAgents never
    /// do.
    pub fn lingers(&mut self) -> Option<bool> {
        if self.system == System::Launchd {
            return Some(false);
        }
        let user = self.run_checked("id", &["-u"]).ok()?;
        let shown = ["show-user", user.trim(), "--property=Linger"];
        let run = self.run_checked("loginctl", &shown).ok()?;
        run.lines().find_map(|line| line.strip_prefix("Linger=")).map(|value| value.trim() == "yes")
    }

    pub(super) fn load(&mut self, folder: &Path) -> Result<()> {
        match self.system {
            System::Systemd => {
                self.reload()?;
                for job in &JOBS {
                    self.systemctl(&["enable", "--now", &timer_name(job)])?;
                }
            }
            System::Launchd => {
                // launchd reads the file again only on bootout and bootstrap, not on `kickstart`.
                self.unload()?;
                let domain = self.domain()?;
                for job in &JOBS {
                    let path = folder.join(format!("{}.plist", job.label()));
                    self.run_checked(
                        "launchctl",
                        &["bootstrap", &domain, &path.to_string_lossy()],
                    )?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn unload(&mut self) -> Result<()> {
        for job in self.status()?.iter().zip(&JOBS).filter(|(held, _)| held.loaded) {
            match self.system {
                System::Systemd => {
                    drop(self.systemctl(&["disable", "--now", &timer_name(job.1)])?)
                }
                System::Launchd => {
                    let domain = self.domain()?;
                    self.run_checked(
                        "launchctl",
                        &["bootout", &format!("{domain}/{}", job.1.label())],
                    )?;
                }
            }
        }
        Ok(())
    }

    /// Makes systemd read its folder again. launchd reads the files on bootstrap.
    pub(super) fn reload(&mut self) -> Result<()> {
        match self.system {
            System::Systemd => self.systemctl(&["daemon-reload"]).map(drop),
            System::Launchd => Ok(()),
        }
    }

    fn timer(&mut self, job: &Job) -> Result<JobStatus> {
        let name = timer_name(job);
        let shown = ["show", &name, "--property=ActiveState,NextElapseUSecRealtime"];
        let run = self.systemctl(&shown)?;
        let value = |key: &str| {
            let mut lines = run.lines().filter_map(|line| line.split_once('='));
            lines.find(|(k, _)| *k == key).map(|(_, value)| value.trim().to_owned())
        };
        let loaded = value("ActiveState").as_deref() == Some("active");
        let detail = match value("NextElapseUSecRealtime") {
            Some(next) if loaded => format!("next {next}"),
            _ => value("ActiveState").unwrap_or_else(|| "unknown".to_owned()),
        };
        Ok(JobStatus { label: job.label(), loaded, detail })
    }

    fn agent(&mut self, job: &Job) -> Result<JobStatus> {
        let target = format!("{}/{}", self.domain()?, job.label());
        let run = self.run("launchctl", &["print", &target])?;
        let state = run.output.lines().find_map(|line| line.trim().strip_prefix("state = "));
        let detail = match run.success {
            true => state.unwrap_or("loaded").to_owned(),
            false => "not loaded".to_owned(),
        };
        Ok(JobStatus { label: job.label(), loaded: run.success, detail })
    }

    /// The user's launchd domain, such as `gui/501`.
    fn domain(&mut self) -> Result<String> {
        Ok(format!("gui/{}", self.run_checked("id", &["-u"])?.trim()))
    }

    fn systemctl(&mut self, arguments: &[&str]) -> Result<String> {
        let arguments: Vec<&str> =
            std::iter::once("--user").chain(arguments.iter().copied()).collect();
        self.run_checked("systemctl", &arguments)
    }

    /// The output of a program; an error if it fails.
    fn run_checked(&mut self, program: &str, arguments: &[&str]) -> Result<String> {
        let run = self.run(program, arguments)?;
        match run.success {
            true => Ok(run.output),
            false => Err(failed(program, arguments, run.output.trim().to_owned())),
        }
    }

    fn run(&mut self, program: &str, arguments: &[&str]) -> Result<CommandOutput> {
        (self.run)(program, arguments).map_err(|e| failed(program, arguments, e.to_string()))
    }
}

fn timer_name(job: &Job) -> String {
    format!("{}.timer", job.label())
}

fn failed(program: &str, arguments: &[&str], reason: String) -> Error {
    Error::Schedule { command: format!("{program} {}", arguments.join(" ")), reason }
}
