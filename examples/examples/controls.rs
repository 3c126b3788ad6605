//! Negative controls: the demo's night with training rows that are corrupted on purpose. The gate has to refuse every one; if it
//! does not, nothing that it says can be believed.
//!
//! ```sh
//! cargo run --release --example controls -- --out controls
//! ```
//!
//! Exit codes: 0 all refused for the right reason, 1 one was promoted or refused without that reason.

use std::process::ExitCode;

use nightshift::{commands::controls, program};

fn main() -> ExitCode {
    program(controls::run)
}
