//! Process priority and sleep inhibition while a night runs.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

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
    /// Starts `caffeinate` on macOS and `systemd-inhibit` elsewhere. Both end when this process is killed.
    pub fn start() -> Self {
        let pid = std::process::id().to_string();
        let process = match cfg!(target_os = "macos") {
            true => spawn_quiet("caffeinate", &["-i", "-m", "-w", &pid]).ok(),
            false => hold("systemd-inhibit"),
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
            drop(process.stdin.take());
            // On failure it ends with this process.
            let _ = process.kill().and_then(|()| process.wait());
        }
    }
}

/// How long the system may take to grant an inhibitor lock.
const PATIENCE: Duration = Duration::from_secs(5);

/// Starts `systemd-inhibit`, which runs `cat` while it holds the lock. `cat` ends when our end of its input closes, also by
/// our death. `None` if the lock is not granted.
fn hold(program: &str) -> Option<Child> {
    let mut command = Command::new(program);
    command.args(["--what=sleep", "--mode=block", "--who=nightshift", "--why=a night is running"]);
    command.arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    // `cat` runs only once the lock is held: then a byte comes back.
    let sent = child.stdin.as_mut().is_some_and(|input| input.write_all(b"\n").is_ok());
    let (tell, told) = mpsc::channel();
    if let Some(mut output) = child.stdout.take().filter(|_| sent) {
        thread::spawn(move || tell.send(output.read_exact(&mut [0]).is_ok()));
    }
    if told.recv_timeout(PATIENCE) == Ok(true) {
        return Some(child);
    }
    let _ = child.kill().and_then(|()| child.wait());
    None
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
        let inhibitor = SleepInhibitor { process: None };
        assert!(inhibitor.describe().contains("not inhibited"));
    }

    /// Programs in place of `systemd-inhibit`: one that grants the lock, one that refuses it, and none.
    #[cfg(unix)]
    #[test]
    fn a_lock_is_held_only_if_it_is_granted() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let program = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path.display().to_string()
        };
        let grants = program("grants", "#!/bin/sh\nfor last; do :; done\nexec \"$last\"\n");
        let refuses = program("refuses", "#!/bin/sh\necho Access denied >&2\nexit 1\n");
        // Another test's child may still have the script open for writing, and then it does not start.
        let mut child = (0..100).find_map(|_| hold(&grants)).unwrap();
        assert!(child.try_wait().unwrap().is_none(), "it is held");
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success(), "and ends with its input");
        assert!(hold(&refuses).is_none());
        assert!(hold("/nowhere/systemd-inhibit").is_none());
    }
}
