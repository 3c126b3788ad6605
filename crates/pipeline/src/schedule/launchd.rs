//! LaunchAgents as property lists.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{File, JOBS, Schedule, StartTime};
use crate::error::{Error, Result};

/// A night stops after the current update, which takes minutes with a large model.
const STOP_SECONDS: u16 = 600;

/// A LaunchAgent; see `launchd.plist(5)`. Without `KeepAlive`, no exit code has consequences.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Agent {
    label: String,
    program_arguments: Vec<String>,
    working_directory: String,
    environment_variables: BTreeMap<String, String>,
    start_calendar_interval: Times,
    /// `Background` would confine it to the efficiency cores.
    process_type: &'static str,
    nice: i8,
    #[serde(rename = "LowPriorityIO")]
    low_priority_io: bool,
    /// Octal 077: new files are accessible only to their owner.
    umask: u16,
    /// Seconds between SIGTERM and SIGKILL: an update and its checkpoint.
    exit_time_out: u16,
    standard_out_path: String,
    standard_error_path: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct At {
    hour: i8,
    minute: i8,
}

/// One time, or a list of them.
#[derive(Serialize)]
#[serde(untagged)]
enum Times {
    One(At),
    Several(Vec<At>),
}

impl Times {
    fn of(times: &[StartTime]) -> Self {
        match times {
            [only] => Times::One(only.into()),
            several => Times::Several(several.iter().map(At::from).collect()),
        }
    }
}

impl From<&StartTime> for At {
    fn from(time: &StartTime) -> Self {
        At { hour: time.hour, minute: time.minute }
    }
}

pub(super) fn files(schedule: &Schedule) -> Result<Vec<File>> {
    let agents = JOBS.iter().map(|job| {
        let label = job.label();
        let log = schedule.folder().join(format!("{label}.log")).to_string_lossy().into_owned();
        Agent {
            program_arguments: schedule.command(job),
            working_directory: schedule.folder().to_string_lossy().into_owned(),
            environment_variables: schedule
                .environment
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            start_calendar_interval: Times::of(job.times),
            process_type: "Standard",
            nice: 10,
            low_priority_io: true,
            umask: 0o077,
            exit_time_out: STOP_SECONDS,
            standard_out_path: log.clone(),
            standard_error_path: log,
            label,
        }
    });
    agents.map(|agent| file(&agent)).collect()
}

fn file(agent: &Agent) -> Result<File> {
    let name = format!("{}.plist", agent.label);
    let mut text = Vec::new();
    let written = plist::to_writer_xml(&mut text, agent).map_err(|e| e.to_string());
    let text = written.and_then(|()| String::from_utf8(text).map_err(|e| e.to_string()));
    match text {
        Ok(text) => Ok(File { name, text: text + "\n" }),
        Err(reason) => Err(Error::Config { path: name.into(), reason }),
    }
}

/// The program in an agent's file.
pub(super) fn program(plist: &[u8]) -> Option<String> {
    let agent = plist::Value::from_reader_xml(plist).ok()?;
    let words = agent.as_dictionary()?.get("ProgramArguments")?.as_array()?;
    Some(words.first()?.as_string()?.to_owned())
}
