//! Builds a data set from clean rows: train, valid and test splits with a report and a manifest.
//!
//! ```sh
//! cargo run --release --example enrich -- --config fixtures/configs/enrich.yaml --out data
//! ```

use std::process::ExitCode;

use nightshift::{commands::enrich, program};

fn main() -> ExitCode {
    program(enrich::run)
}
