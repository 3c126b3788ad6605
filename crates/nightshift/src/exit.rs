//! Exit codes, and errors in one line.

use std::error::Error;
use std::process::ExitCode;

use crate::output::ClosedPipe;

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Success: 0.
    Done,
    /// The gate or a check said no: 1.
    No,
    /// A budget ran out; the progress is saved: 3.
    BudgetSpent,
    /// No check failed, but some did not run: 4.
    NotRun,
    /// Nothing has changed since the last night: 5.
    NothingNew,
    /// A signal stopped it; the progress is saved: 128 and the signal's number.
    Stopped(u8),
}

/// 128 + SIGPIPE: what a shell shows of a program that a closed pipe has ended.
const PIPE_CLOSED: u8 = 141;

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::No => 1,
            Exit::BudgetSpent => 3,
            Exit::NotRun => 4,
            Exit::NothingNew => 5,
            Exit::Stopped(signal) => signal.saturating_add(128),
        })
    }
}

/// The exit code of a result. An error is printed in one line; a closed pipe is not.
pub(crate) fn finish(result: anyhow::Result<Exit>) -> ExitCode {
    let error = match result {
        Ok(exit) => return exit.into(),
        Err(error) => error,
    };
    if error.is::<ClosedPipe>() {
        return ExitCode::from(PIPE_CLOSED);
    }
    errln!("error: {}", describe(error.as_ref()));
    ExitCode::from(error.downcast_ref().map_or(2, pipeline::Error::exit_code))
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
