//! Checks everything that a night needs, hours before it starts.

mod attempt;
mod checks;
mod evaluation_trial;
mod finding;
mod lints;
mod memory;
mod rehearsal;
mod report;
mod scratch;
#[cfg(test)]
mod tests;
mod time_plan;
mod training_trial;

use std::path::PathBuf;
use std::time::Instant;

pub use finding::CheckStatus;
pub use report::{CheckGroup, PreflightCheck, PreflightReport};

use crate::config::{ModelChoice, NightFile};
use crate::error::Result;
use crate::schedule::ScheduleStatus;
use attempt::Attempt;
use checks::CHECKS;
use finding::Finding;
use rehearsal::Rehearsal;

/// The checks before a night.
///
/// They rehearse the night in a scratch folder inside the home, with the night's own stages: all rows are
/// converted and enriched, two iterations are trained, and the resulting adapter goes through a small
/// exam, the gate, promotion and report. Of a model that is too large for this on a CPU only the headers
/// are read; the checks that need more say that they did not run.
///
/// ```no_run
/// use pipeline::config::{ModelChoice, NightFile};
/// use pipeline::preflight::Preflight;
///
/// let file = NightFile::load("fixtures/sanctum.yaml")?;
/// let report = Preflight::new(file, ModelChoice::from_env()).run(&mut |_| ())?;
/// println!("{}", report.line);
/// # Ok::<(), pipeline::Error>(())
/// ```
#[derive(Debug)]
pub struct Preflight {
    file: NightFile,
    choice: ModelChoice,
    home: Option<PathBuf>,
    schedule: Attempt<Option<ScheduleStatus>>,
}

impl Preflight {
    /// The checks before a night with the chosen model.
    pub fn new(file: NightFile, choice: ModelChoice) -> Self {
        Self { file, choice, home: None, schedule: Attempt::Done(None) }
    }

    /// Uses this home instead of the one in the file.
    pub fn in_home(self, home: Option<PathBuf>) -> Self {
        Self { home, ..self }
    }

    /// Also checks the schedule, given its status or why that is unknown.
    pub fn with_schedule(self, status: Result<ScheduleStatus>) -> Self {
        Self { schedule: Attempt::from(status.map(Some)), ..self }
    }

    /// Runs all checks, passes the current activity to `on_step`, and writes `preflight.json` into
    /// the home.
    ///
    /// # Errors
    /// A model choice that the file does not have, or a scratch folder that cannot be created. Any
    /// other problem is part of the report.
    pub fn run(self, on_step: &mut dyn FnMut(&str)) -> Result<PreflightReport> {
        let begun = Instant::now();
        let Self { file, choice, home, schedule } = self;
        let rehearsal = Rehearsal::run(&file, &choice, home, schedule, on_step)?;
        let checks = CHECKS.iter().map(|&(group, check, run)| {
            let Finding { status, detail } = run(&rehearsal);
            let detail = detail.split_whitespace().collect::<Vec<_>>().join(" ");
            PreflightCheck { group, check: checks::name(check, &rehearsal), status, detail }
        });
        let model = match &choice {
            ModelChoice::Default => file.default_model(),
            ModelChoice::Named { name, .. } => name.clone(),
        };
        let path = file.path().to_path_buf();
        let seconds = begun.elapsed().as_secs_f64();
        let report = PreflightReport::new(path, model, seconds, checks.collect());
        if let Some(home) = rehearsal.home.done() {
            // The caller gets the report even if it cannot be written.
            let _ = durable::write_json(home.path().join("preflight.json"), &report);
        }
        Ok(report)
    }
}
