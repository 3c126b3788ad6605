//! What the commands print: data to stdout, everything for people to stderr.
//!
//! Unlike `println!` and `eprintln!`, nothing here panics when the reader has closed its end.

use std::fmt;
use std::io::{self, Write};

use anyhow::Context;
use comfy_table::{ContentArrangement, Table, presets};

/// Like `print!`, but returns an error instead of a panic: [`ClosedPipe`](crate::output::ClosedPipe) if nobody reads.
macro_rules! out {
    ($($format:tt)*) => { $crate::output::data(format_args!($($format)*)) };
}

/// Like `println!`; see [`out!`].
macro_rules! outln {
    ($($format:tt)*) => { out!("{}\n", format_args!($($format)*)) };
}

/// Like `eprintln!`, but a line that cannot be written is lost, as there is nobody to tell.
macro_rules! errln {
    ($($format:tt)*) => { $crate::output::note(format_args!($($format)*)) };
}

/// The reader of stdout has closed its end of the pipe, as `head` does.
#[derive(Debug)]
pub(crate) struct ClosedPipe;

impl fmt::Display for ClosedPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stdout: the reader has closed the pipe")
    }
}

impl std::error::Error for ClosedPipe {}

/// Writes to stdout at once; the macros `out!` and `outln!` call it.
pub(crate) fn data(text: fmt::Arguments<'_>) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_fmt(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ClosedPipe.into()),
        written => written.context("stdout: cannot write"),
    }
}

/// Writes a line to stderr; the macro `errln!` calls it.
pub(crate) fn note(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A table for stderr with the width of the terminal, or 80 columns without one.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.use_stderr();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    if table.width().is_none() {
        table.set_width(80);
    }
    table
}
