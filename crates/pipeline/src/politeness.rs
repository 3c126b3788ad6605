//! A night among other programs: it yields to them, and keeps the machine awake for itself.

use std::io;
use std::process::{Child, Command, Stdio};

/// How much a night gives way: to whoever sits at the machine, by a good deal.
const NICE: i32 = 10;

/// Gives this process a low priority for processors and disks; threads started later have it too.
/// Returns what was set, for the log.
pub fn yield_to_others() -> String {
    let nice = match rustix::process::setpriority_process(None, NICE) {
        Ok(()) => format!("nice {NICE}"),
        Err(error) => format!("nice unchanged ({error})"),
    };
    // Launchd's own jobs have their disk priority from the job's file.
    let pid = std::process::id().to_string();
    let idle = cfg!(target_os = "linux")
        && quiet("ionice", &["-c", "3", "-p", &pid])
            .and_then(|mut c| c.wait())
            .is_ok_and(|s| s.success());
    format!("{nice}, disk priority {}", if idle { "idle" } else { "unchanged" })
}

/// Keeps the machine from falling asleep for as long as it lives.
#[derive(Debug)]
pub struct StayAwake {
    keeper: Option<Child>,
}

impl StayAwake {
    /// Holds the machine awake, where there is a way to: `caffeinate` on macOS, which also ends when
    /// this process is killed.
    pub fn hold() -> Self {
        let pid = std::process::id().to_string();
        let keeper = match cfg!(target_os = "macos") {
            true => quiet("caffeinate", &["-i", "-m", "-w", &pid]).ok(),
            false => None,
        };
        Self { keeper }
    }

    /// Whether something holds it awake.
    pub fn is_held(&self) -> bool {
        self.keeper.is_some()
    }

    /// What a log should say.
    pub fn describe(&self) -> &'static str {
        match self.is_held() {
            true => "the machine stays awake until the night is over",
            false => "nothing keeps this machine awake: its own settings decide",
        }
    }
}

impl Drop for StayAwake {
    fn drop(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            // It ends with this process anyway.
            let _ = keeper.kill().and_then(|()| keeper.wait());
        }
    }
}

fn quiet(program: &str, arguments: &[&str]) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn the_keeper_goes_when_the_night_is_over() {
        let keeper = quiet("sleep", &["600"]).unwrap();
        let pid = keeper.id();
        let awake = StayAwake { keeper: Some(keeper) };
        assert!(awake.is_held());
        drop(awake);
        let alive = quiet("kill", &["-0", &pid.to_string()]).unwrap().wait().unwrap();
        assert!(!alive.success());
    }

    #[test]
    fn where_there_is_no_keeper_it_says_so() {
        let awake = StayAwake::hold();
        assert_eq!(awake.is_held(), cfg!(target_os = "macos"));
        assert_eq!(awake.describe().starts_with("nothing"), !awake.is_held());
    }
}
