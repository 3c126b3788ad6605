//! Merges an adapter into the weights of its model, and measures the rounding error of the logits.
//!
//! ```sh
//! cargo run --release --example fuse -- --model DIR --adapter DIR --out DIR
//! ```

use std::process::ExitCode;

use nightshift::{commands::fuse, program};

fn main() -> ExitCode {
    program(fuse::run)
}
