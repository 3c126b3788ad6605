//! Has the machine check everything at ten and start a night at one: LaunchAgents on macOS, user timers on
//! Linux.
//!
//! ```sh
//! cargo build --release --example nightly --example preflight
//! cargo run --release --example schedule -- install --config ~/sanctum/night.yaml
//! cargo run --release --example schedule -- status --config ~/sanctum/night.yaml
//! ```
//!
//! Exit codes: 0 done, 1 `status` found a job that is not loaded, 2 bad input.

use std::process::ExitCode;

use nightshift::{commands::schedule, program};

fn main() -> ExitCode {
    program(schedule::run)
}
