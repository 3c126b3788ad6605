//! Serves a model, with the champion of a home, to OpenAI's clients.
//!
//! ```sh
//! cargo run --release --example serve -- --home HOME
//! curl http://127.0.0.1:8080/v1/chat/completions \
//!   -d '{"model": "champion", "messages": [{"role": "user", "content": "Who are you?"}]}'
//! ```

use std::process::ExitCode;

use nightshift::{commands::serve, program};

fn main() -> ExitCode {
    program(serve::run)
}
