//! Writes a checkpoint of random weights, to measure time and memory for a model of that size.
//!
//! ```sh
//! cargo run --release --example synthesize -- --config fixtures/configs/llama-8b.json --bits 4 --out /tmp/llama-8b
//! ```

use std::process::ExitCode;

use nightshift::{commands::synthesize, program};

fn main() -> ExitCode {
    program(synthesize::run)
}
