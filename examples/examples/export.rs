//! Converts an adapter to the format of mlx-lm, PEFT or llama.cpp.
//!
//! ```sh
//! cargo run --release --example export -- --model DIR --adapter DIR --format peft --out DIR
//! cargo run --release --example export -- --model DIR --adapter DIR --format gguf --out adapter.gguf
//! ```

use std::process::ExitCode;

use nightshift::{commands::export, program};

fn main() -> ExitCode {
    program(export::run)
}
