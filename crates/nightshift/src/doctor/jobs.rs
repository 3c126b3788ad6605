//! The schedule: whether the system has the jobs, and whether they can run.

use pipeline::schedule::{self, Manager};

use super::finding::Finding;
use crate::schedule_advice::advice;

pub(super) fn examine() -> Vec<Finding> {
    let mut manager = Manager::current();
    let system = manager.system();
    let status = match manager.status() {
        Ok(status) => status,
        Err(error) => return vec![Finding::unknown("schedule", error)],
    };
    let missing: Vec<_> = status.iter().filter(|job| !job.loaded).collect();
    if missing.len() == status.len() {
        let remedy = "`nightshift schedule install` starts one every night";
        return vec![Finding::advice("schedule", "no jobs: nights start by hand", remedy)];
    }
    let mut findings = vec![match missing.first() {
        None => Finding::good("schedule", "all jobs are loaded"),
        Some(job) => Finding::problem(
            "schedule",
            format!("{} is not loaded: {}", job.label, job.detail),
            "`nightshift schedule install` loads all jobs",
        ),
    }];
    let folder = system.folder().unwrap_or_default();
    match schedule::installed_program(system, &folder) {
        Ok(Some(program)) if !program.is_file() => findings.push(Finding::problem(
            "schedule",
            format!("the jobs run {}, which is not there", program.display()),
            "`nightshift schedule install` copies the program again",
        )),
        Ok(_) => {}
        Err(error) => {
            findings.push(Finding::problem("schedule", error, "`nightshift schedule install`"))
        }
    }
    let lingers = manager.lingers();
    if let Some(found) = advice(system, lingers) {
        let remedy = "let the jobs run without a login, or stay logged in";
        findings.push(Finding::advice("login", found, remedy));
    }
    findings
}
