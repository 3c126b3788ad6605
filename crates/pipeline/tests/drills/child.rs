//! A night in a process of its own.

use std::env;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use pipeline::{Event, Night, NightConfig};

use crate::support::Tiny;

/// Environment variable of a child process: the number of the event at which it fills its disk, the bytes that it leaves free,
/// and the configuration.
const CHILD: &str = "NIGHT_DRILL_CHILD";

/// A disk that is filled in the middle of a night.
#[derive(Debug, Clone, Copy)]
pub struct Filling {
    /// The number of the event.
    pub at: usize,
    /// Bytes that are left.
    pub free: usize,
}

/// Never.
pub const NOT: Filling = Filling { at: usize::MAX, free: 0 };

/// The command of a night.
pub fn night(tiny: &Tiny, filling: Filling) -> Command {
    let Filling { at, free } = filling;
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "child::child_of_a_drill", "--nocapture", "--quiet"])
        .env(CHILD, format!("{at} {free} {}", tiny.path("night.yaml").display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Starts a night.
pub fn start(tiny: &Tiny) -> Child {
    night(tiny, NOT).spawn().unwrap()
}

#[test]
fn child_of_a_drill() {
    let Ok(task) = env::var(CHILD) else { return };
    let mut parts = task.splitn(3, ' ');
    let mut part = || parts.next().unwrap();
    let (at, free): (usize, usize) = (part().parse().unwrap(), part().parse().unwrap());
    let config = NightConfig::load(part()).unwrap();
    let home = config.home.clone().unwrap();
    let mut events = 0;
    let result = Night::start_or_resume(config).and_then(|night| {
        night.run(&mut |_: Event<'_>| {
            if events == at {
                fill(&home.join("filler"), free);
            }
            events += 1;
        })
    });
    if let Err(error) = result {
        // Not captured by the test harness: the parent reads it.
        let _ = writeln!(std::io::stderr(), "{error}");
        std::process::exit(error.exit_code().into());
    }
}

/// Writes until the disk is full, in decreasing block sizes, and frees `free` bytes.
fn fill(path: &Path, free: usize) {
    let spare = path.with_extension("spare");
    fs::write(&spare, vec![0; free]).unwrap();
    let mut file = fs::File::create(path).unwrap();
    for size in [1 << 20, 1 << 12, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
    fs::remove_file(spare).unwrap();
}
