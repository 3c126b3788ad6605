//! Checks and prints the configuration of a night.
//!
//! ```sh
//! cargo run --release --example config -- check --config night.yaml
//! SANCTUM_TRAIN_MODEL=qwen cargo run --release --example config -- print --config night.yaml
//! ```

use std::process::ExitCode;

use nightshift::{commands::config, program};

fn main() -> ExitCode {
    program(config::run)
}
