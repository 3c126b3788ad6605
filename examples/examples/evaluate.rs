//! Runs an exam with a model: answers, scores and a summary.
//!
//! ```sh
//! cargo run --release --example evaluate -- --model model.gguf --suite fixtures/suites/household.json --out runs/base
//! ```
//!
//! After a kill or a spent budget the same command resumes the exam.

use std::process::ExitCode;

use nightshift::{commands::evaluate, program};

fn main() -> ExitCode {
    program(evaluate::run)
}
