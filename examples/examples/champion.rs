//! Shows and changes the champion of a home.
//!
//! ```sh
//! cargo run --release --example champion -- status
//! cargo run --release --example champion -- rollback --reason "it says good morning at night"
//! ```

use std::process::ExitCode;

use nightshift::{commands::champion, program};

fn main() -> ExitCode {
    program(champion::run)
}
