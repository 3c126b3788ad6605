//! The program `nightshift`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nightshift::program(nightshift::run)
}
