//! Trains a LoRA adapter from a configuration of `mlx_lm.lora`.
//!
//! ```sh
//! cargo run --release --example train -- --config night.yaml
//! ```
//!
//! After an interruption, the same command with `--resume` continues from the last checkpoint.

use std::process::ExitCode;

use nightshift::{commands::train, program};

fn main() -> ExitCode {
    program(train::run)
}
