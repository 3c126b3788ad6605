//! The result of a step of the rehearsal.

use super::finding::Finding;
use crate::error::{Error, Result};

/// The result of a step of the rehearsal.
#[derive(Debug)]
pub(super) enum Attempt<T> {
    Done(T),
    Failed(Error),
    /// The step was not tried, for this reason.
    NotTried(&'static str),
}

impl<T> From<Result<T>> for Attempt<T> {
    fn from(result: Result<T>) -> Self {
        match result {
            Ok(done) => Attempt::Done(done),
            Err(error) => Attempt::Failed(error),
        }
    }
}

impl<T> Attempt<T> {
    pub fn done(&self) -> Option<&T> {
        match self {
            Attempt::Done(done) => Some(done),
            _ => None,
        }
    }

    /// The finding of the check for this step: a failed step fails the check.
    pub fn judge(&self, finding: impl FnOnce(&T) -> Finding) -> Finding {
        match self {
            Attempt::Done(done) => finding(done),
            Attempt::Failed(error) => Finding::failed(error),
            Attempt::NotTried(why) => Finding::not_run(why),
        }
    }

    /// The finding of a check that needs this step's result, called `what`: without it the check does
    /// not run.
    pub fn needed(&self, what: &str, finding: impl FnOnce(&T) -> Finding) -> Finding {
        match self {
            Attempt::Done(done) => finding(done),
            _ => Finding::not_run(format!("needs {what}")),
        }
    }
}
