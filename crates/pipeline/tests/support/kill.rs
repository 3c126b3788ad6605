//! Nights in a child process that kills itself.

use std::env;
use std::path::Path;
use std::process::{Command, ExitStatus};

use pipeline::{Event, Night, NightConfig};

use crate::support::Tiny;

/// Environment variable of the child process: the number of the event at which it kills itself, and the
/// configuration.
const CHILD: &str = "NIGHT_TEST_CHILD";

/// An event in a few words.
pub fn name(event: Event<'_>) -> String {
    match event {
        Event::NightBegun { resumed, .. } => format!("night resumed={resumed}"),
        Event::StageBegun { stage } => format!("{stage} begun"),
        Event::StageSkipped { stage, .. } => format!("{stage} skipped"),
        Event::Progress { stage, done, .. } => format!("{stage} at {done}"),
        Event::StageFinished { stage, .. } => format!("{stage} finished"),
        _ => String::new(),
    }
}

/// Runs a night in a child process that kills itself with SIGKILL at the event with this number. The test binary has a
/// test `child_of_the_kill_test` that calls [`child`].
pub fn kill_at(tiny: &Tiny, moment: usize) -> ExitStatus {
    let config = tiny.path("night.yaml");
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "child_of_the_kill_test", "--nocapture", "--quiet"])
        .env(CHILD, format!("{moment} {}", config.display()))
        .output()
        .unwrap()
        .status
}

/// The night of the child process; nothing in other processes.
pub fn child() {
    let Ok(task) = env::var(CHILD) else { return };
    let (moment, config) = task.split_once(' ').unwrap();
    let mut left: usize = moment.parse().unwrap();
    let config = NightConfig::load(Path::new(config)).unwrap();
    let night = Night::start_or_resume(config).unwrap();
    let _ = night.run(&mut |_: Event<'_>| {
        if left == 0 {
            let pid = std::process::id().to_string();
            Command::new("kill").args(["-9", &pid]).status().unwrap();
        }
        left = left.wrapping_sub(1);
    });
}
