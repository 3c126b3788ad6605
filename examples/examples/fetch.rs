//! Fetches a model from the Hugging Face hub and prints where it is.
//!
//! ```sh
//! cargo run --release --example fetch -- mlx-community/gemma-4-31b-it-4bit
//! cargo run --release --example fetch -- OWNER/NAME --file model.Q4_1.gguf
//! ```

use std::process::ExitCode;

use nightshift::{commands::fetch, program};

fn main() -> ExitCode {
    program(fetch::run)
}
