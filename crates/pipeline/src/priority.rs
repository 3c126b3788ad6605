//! Process priority and sleep inhibition while a night runs.

use std::io;
use std::process::{Child, Command, Stdio};

/// The nice value of a night.
const NICE: i32 = 10;

/// Lowers the CPU and disk priority of this process and of the threads started later. Returns what
/// was set, for the log.
pub fn lower_priority() -> String {
    let nice = match rustix::process::setpriority_process(None, NICE) {
        Ok(()) => format!("nice {NICE}"),
        Err(error) => format!("nice unchanged ({error})"),
    };
    // On macOS the launchd job sets the disk priority.
    let pid = std::process::id().to_string();
    let idle = cfg!(target_os = "linux")
        && spawn_quiet("ionice", &["-c", "3", "-p", &pid])
            .and_then(|mut c| c.wait())
            .is_ok_and(|s| s.success());
    format!("{nice}, disk priority {}", if idle { "idle" } else { "unchanged" })
}

/// Keeps the machine awake until it is dropped.
#[derive(Debug)]
pub struct SleepInhibitor {
    process: Option<Child>,
}

impl SleepInhibitor {
    /// Starts `caffeinate` on macOS, which also ends when this process is killed. Does nothing on
    /// other systems.
    pub fn start() -> Self {
        let pid = std::process::id().to_string();
        let process = match cfg!(target_os = "macos") {
            true => spawn_quiet("caffeinate", &["-i", "-m", "-w", &pid]).ok(),
            false => None,
        };
        Self { process }
    }

    /// The state in one line, for the log.
    pub fn describe(&self) -> &'static str {
        match self.process.is_some() {
            true => "the machine stays awake until the night is over",
            false => "sleep is not inhibited: the machine's own settings apply",
        }
    }
}

impl Drop for SleepInhibitor {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // On failure `caffeinate` ends with this process.
            let _ = process.kill().and_then(|()| process.wait());
        }
    }
}

fn spawn_quiet(program: &str, arguments: &[&str]) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn dropping_the_inhibitor_ends_its_process() {
        let process = spawn_quiet("sleep", &["600"]).unwrap();
        let pid = process.id();
        let inhibitor = SleepInhibitor { process: Some(process) };
        drop(inhibitor);
        let alive = spawn_quiet("kill", &["-0", &pid.to_string()]).unwrap().wait().unwrap();
        assert!(!alive.success());
    }

    #[test]
    fn without_a_process_it_says_so() {
        let inhibitor = SleepInhibitor::start();
        assert_eq!(inhibitor.describe().contains("not inhibited"), !cfg!(target_os = "macos"));
    }
}
