//! Checks everything that tonight's night needs, and rehearses it in a scratch folder.
//!
//! ```sh
//! cargo run --release --example preflight -- --config night.yaml
//! SANCTUM_TRAIN_MODEL=demo cargo run --release --example preflight -- --config fixtures/sanctum.yaml
//! ```
//!
//! Exit codes: 0 no check failed, 1 a check failed, 2 bad input.

use std::process::ExitCode;

use nightshift::{commands::preflight, program};

fn main() -> ExitCode {
    program(preflight::run)
}
