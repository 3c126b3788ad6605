use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use super::Job;
use crate::error::{Error, Result};

/// Who starts jobs on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum System {
    /// macOS: LaunchAgents of the user.
    Launchd,
    /// Linux: units of the user.
    Systemd,
}

impl System {
    /// The one of this machine.
    pub fn this() -> Self {
        if cfg!(target_os = "macos") { Self::Launchd } else { Self::Systemd }
    }

    /// The folder that it reads the user's jobs from; none if the user has no home.
    pub fn folder(self) -> Option<PathBuf> {
        match self {
            System::Launchd => dirs::home_dir().map(|home| home.join("Library/LaunchAgents")),
            System::Systemd => dirs::config_dir().map(|config| config.join("systemd/user")),
        }
    }
}

/// What the system holds of a job, in its own words; what we wrote does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loaded {
    /// The job's name.
    pub label: String,
    /// Whether the system would start it.
    pub loaded: bool,
    /// What it says about it: the next time on systemd, the state on launchd.
    pub says: String,
}

/// What a program printed, and whether it succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Exit status 0.
    pub success: bool,
    /// stdout, then stderr.
    pub output: String,
}

/// Runs a program of the system with arguments.
pub type Tool<'a> = dyn FnMut(&str, &[&str]) -> io::Result<Run> + 'a;

/// Speaks with a [`System`] through its own program: `launchctl` or `systemctl --user`.
pub struct Manager<'a> {
    system: System,
    run: Box<Tool<'a>>,
}

impl Manager<'static> {
    /// The system of this machine.
    pub fn this() -> Self {
        Self::with(System::this(), |program, arguments| {
            let output = Command::new(program).args(arguments).output()?;
            let text = [output.stdout, output.stderr].concat();
            let output_text = String::from_utf8_lossy(&text).into_owned();
            Ok(Run { success: output.status.success(), output: output_text })
        })
    }
}

impl<'a> Manager<'a> {
    /// A system whose program is run by `run`.
    pub fn with(
        system: System,
        run: impl FnMut(&str, &[&str]) -> io::Result<Run> + 'a,
    ) -> Manager<'a> {
        Manager { system, run: Box::new(run) }
    }

    /// The system.
    pub fn system(&self) -> System {
        self.system
    }

    /// What the system holds of each job.
    pub fn status(&mut self, jobs: &[Job]) -> Result<Vec<Loaded>> {
        jobs.iter()
            .map(|job| match self.system {
                System::Launchd => self.agent(job),
                System::Systemd => self.timer(job),
            })
            .collect()
    }

    pub(super) fn load(&mut self, jobs: &[Job], folder: &Path) -> Result<()> {
        match self.system {
            System::Systemd => {
                self.reload()?;
                for job in jobs {
                    self.systemctl(&["enable", "--now", &timer_name(job)])?;
                }
            }
            System::Launchd => {
                // `kickstart` would go on with what launchd has in memory: only a bootout and a
                // bootstrap read the file again.
                self.unload(jobs)?;
                let domain = self.domain()?;
                for job in jobs {
                    let path = folder.join(format!("{}.plist", job.label()));
                    self.must("launchctl", &["bootstrap", &domain, &path.to_string_lossy()])?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn unload(&mut self, jobs: &[Job]) -> Result<()> {
        for job in self.status(jobs)?.iter().zip(jobs).filter(|(held, _)| held.loaded) {
            match self.system {
                System::Systemd => {
                    drop(self.systemctl(&["disable", "--now", &timer_name(job.1)])?)
                }
                System::Launchd => {
                    let domain = self.domain()?;
                    self.must("launchctl", &["bootout", &format!("{domain}/{}", job.1.label())])?;
                }
            }
        }
        Ok(())
    }

    /// Has systemd read its folder again; launchd reads on bootstrap.
    pub(super) fn reload(&mut self) -> Result<()> {
        match self.system {
            System::Systemd => self.systemctl(&["daemon-reload"]).map(drop),
            System::Launchd => Ok(()),
        }
    }

    fn timer(&mut self, job: &Job) -> Result<Loaded> {
        let name = timer_name(job);
        let shown = ["show", &name, "--property=ActiveState,NextElapseUSecRealtime"];
        let run = self.systemctl(&shown)?;
        let value = |key: &str| {
            let mut lines = run.lines().filter_map(|line| line.split_once('='));
            lines.find(|(k, _)| *k == key).map(|(_, value)| value.trim().to_owned())
        };
        let loaded = value("ActiveState").as_deref() == Some("active");
        let says = match value("NextElapseUSecRealtime") {
            Some(next) if loaded => format!("next {next}"),
            _ => value("ActiveState").unwrap_or_else(|| "unknown".to_owned()),
        };
        Ok(Loaded { label: job.label(), loaded, says })
    }

    fn agent(&mut self, job: &Job) -> Result<Loaded> {
        let target = format!("{}/{}", self.domain()?, job.label());
        let run = self.run("launchctl", &["print", &target])?;
        let state = run.output.lines().find_map(|line| line.trim().strip_prefix("state = "));
        let says = match run.success {
            true => state.unwrap_or("loaded").to_owned(),
            false => "not loaded".to_owned(),
        };
        Ok(Loaded { label: job.label(), loaded: run.success, says })
    }

    /// The user's domain: `gui/501`.
    fn domain(&mut self) -> Result<String> {
        Ok(format!("gui/{}", self.must("id", &["-u"])?.trim()))
    }

    fn systemctl(&mut self, arguments: &[&str]) -> Result<String> {
        let arguments: Vec<&str> =
            std::iter::once("--user").chain(arguments.iter().copied()).collect();
        self.must("systemctl", &arguments)
    }

    /// The output of a program that has to succeed.
    fn must(&mut self, program: &str, arguments: &[&str]) -> Result<String> {
        let run = self.run(program, arguments)?;
        match run.success {
            true => Ok(run.output),
            false => Err(refused(program, arguments, run.output.trim().to_owned())),
        }
    }

    fn run(&mut self, program: &str, arguments: &[&str]) -> Result<Run> {
        (self.run)(program, arguments).map_err(|e| refused(program, arguments, e.to_string()))
    }
}

fn timer_name(job: &Job) -> String {
    format!("{}.timer", job.label())
}

fn refused(program: &str, arguments: &[&str], reason: String) -> Error {
    Error::Schedule { command: format!("{program} {}", arguments.join(" ")), reason }
}
