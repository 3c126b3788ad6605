//! What is wrong on this machine, and what to do about it.

mod finding;
mod home;
mod jobs;
mod machine;

use std::path::Path;

pub(crate) use finding::{Finding, State};

/// Looks at the machine, at the home in `folder`, and at the schedule. Repairs nothing.
pub(crate) fn examine(folder: &Path) -> Vec<Finding> {
    let mut findings = machine::examine(folder);
    findings.extend(home::examine(folder));
    findings.extend(jobs::examine());
    findings
}
