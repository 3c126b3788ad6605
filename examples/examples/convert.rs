//! Cleans chat data: any supported shape and markup in, clean messages out.
//!
//! ```sh
//! cargo run --release --example convert -- raw.jsonl clean.jsonl
//! cargo run --release --example convert -- logs exports/chats.json.gz clean.jsonl --refused refused.jsonl
//! ```

use std::process::ExitCode;

use nightshift::{commands::convert, program};

fn main() -> ExitCode {
    program(convert::run)
}
