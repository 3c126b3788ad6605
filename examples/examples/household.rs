//! Writes the fictional household's training rows and its exam.
//!
//! ```sh
//! cargo run --release --example household -- --rows 1710 --out raw.jsonl --suite fixtures/suites/household.json
//! ```

use std::process::ExitCode;

use nightshift::{commands::household, program};

fn main() -> ExitCode {
    program(household::run)
}
