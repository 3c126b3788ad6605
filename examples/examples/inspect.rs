//! Shows which tokens of a row are trained.
//!
//! ```sh
//! cargo run --release --example inspect -- model.gguf clean.jsonl --row 3
//! ```

use std::process::ExitCode;

use nightshift::{commands::inspect, program};

fn main() -> ExitCode {
    program(inspect::run)
}
