//! The loss and perplexity of a model on the rows of a file.
//!
//! ```sh
//! cargo run --release --example score -- --model MODEL --data rows.jsonl --mask-prompt
//! ```

use std::process::ExitCode;

use nightshift::{commands::score, program};

fn main() -> ExitCode {
    program(score::run)
}
