//! Decides whether a candidate may replace the champion, and prints every number behind the verdict.
//!
//! ```sh
//! cargo run --release --example gate -- --candidate runs/tonight --champion runs/champion --page compare.html
//! ```
//!
//! Runs of a fresh exam, on cases that nobody has seen, are given by `--fresh-candidate` and the like. Without them the
//! standing exam decides alone, at a stricter level.
//!
//! Exit codes: 0 promote, 1 refuse, 2 no verdict is possible.

use std::process::ExitCode;

use nightshift::{commands::gate, program};

fn main() -> ExitCode {
    program(gate::run)
}
