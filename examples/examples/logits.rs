//! Writes the logits of a sequence of token ids, for comparison with other implementations.
//!
//! ```sh
//! cargo run --release --example logits -- --model MODEL --tokens 504,3575,282 --out logits.safetensors
//! ```

use std::process::ExitCode;

use nightshift::{commands::logits, program};

fn main() -> ExitCode {
    program(logits::run)
}
