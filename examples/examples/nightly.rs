//! Runs a whole night: trains an adapter on raw chats, examines it, and promotes or refuses it.
//!
//! ```sh
//! cargo run --release --example nightly                      # the demo
//! cargo run --release --example nightly -- --config F --json
//! ```
//!
//! Exit codes: 0 promoted, 1 refused or rolled back, 2 bad input or configuration, 3 a budget ran out (the
//! night stopped, or the result is partial).

use std::process::ExitCode;

use nightshift::{commands::night, program};

fn main() -> ExitCode {
    program(night::run)
}
