//! Shared by the examples: exit codes, tables, logs.

use std::error::Error;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use comfy_table::{ContentArrangement, Table, presets};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The exit code of an example that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Success: 0.
    Done,
    /// The gate or a check said no: 1.
    No,
    /// A budget ran out; the progress is saved: 3.
    BudgetSpent,
}

impl From<()> for Exit {
    fn from((): ()) -> Self {
        Exit::Done
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::No => 1,
            Exit::BudgetSpent => 3,
        })
    }
}

/// The exit code of a result; an error is bad input or configuration: 2.
pub fn finish(result: anyhow::Result<impl Into<Exit>>) -> ExitCode {
    match result {
        Ok(exit) => exit.into().into(),
        Err(error) => fail(error.as_ref(), 2),
    }
}

/// Prints an error to stderr in one line.
pub fn fail(error: &dyn Error, code: u8) -> ExitCode {
    eprintln!("error: {}", describe(error));
    ExitCode::from(code)
}

/// A table for stderr with the width of the terminal, or 80 columns without one.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.use_stderr();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    if table.width().is_none() {
        table.set_width(80);
    }
    table
}

/// Writes the log of the libraries to `path`, one JSON object per line. A file that cannot be opened is
/// ignored.
pub fn log_to(path: &Path) {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let Ok(file) = options.open(path) else { return };
    let log = tracing_subscriber::fmt().json().flatten_event(true).with_writer(Mutex::new(file));
    // Fails if a subscriber is set already, which then stays.
    let _ = log.with_max_level(tracing::Level::INFO).try_init();
}

/// Prints the warnings of the libraries to stderr.
pub fn show_warnings() {
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN);
    // Fails if a subscriber is set already, which then stays.
    let _ = log.with_writer(std::io::stderr).event_format(Plain).try_init();
}

/// `warning: MESSAGE` in one line, like the examples' own. Messages have names of files, which may have
/// any characters.
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        writeln!(writer, "warning: {}", text.replace(char::is_control, " "))
    }
}

/// An error and its causes, without causes that an earlier message contains.
fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}

/// The snippets of the project's README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct FrontPage;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let cause = || std::io::Error::other("disk on fire");
        for (error, told) in [
            (anyhow::Error::new(cause()), "disk on fire"),
            (anyhow::Error::new(cause()).context("f: cannot read"), "f: cannot read: disk on fire"),
            (anyhow::Error::new(cause()).context("f: disk on fire"), "f: disk on fire"),
        ] {
            assert_eq!(describe(error.as_ref()), told);
        }
    }
}
