//! Generates the answer to a prompt and prints it as it is generated.
//!
//! ```sh
//! cargo run --release --example generate -- --model MODEL --prompt "What is the capital of France?"
//! ```

use std::process::ExitCode;

use nightshift::{commands::generate, program};

fn main() -> ExitCode {
    program(generate::run)
}
