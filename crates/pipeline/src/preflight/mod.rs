//! Everything that a night will need, looked at while there is time to mend it.

mod benchmark;
mod conversion;
mod dress;
mod enrichment;
mod finding;
mod machine;
mod model_files;
mod pipeline_config;
mod scene;
#[cfg(test)]
mod tests;
mod tonight;
mod training_config;
mod training_runs;
mod two_steps;

use std::path::PathBuf;
use std::time::Instant;

pub use finding::{Checked, PreflightReport, Status, Suite};
pub use machine::Timers;

use crate::config::{Choice, NightFile};
use crate::error::Result;
use finding::Finding;
use scene::{Scene, Tried};

/// One check.
struct Check {
    suite: Suite,
    name: &'static str,
    look: fn(&Scene<'_>) -> Finding,
}

const fn check(suite: Suite, name: &'static str, look: fn(&Scene<'_>) -> Finding) -> Check {
    Check { suite, name, look }
}

/// All checks, in the order that they are told: the seed's 21 under its names, then ours.
const CHECKS: [Check; 32] = [
    check(Suite::DataConversion, "Qwen token stripping", conversion::qwen_token_stripping),
    check(Suite::DataConversion, "output format", conversion::output_format),
    check(Suite::DataConversion, "no leakage", conversion::no_leakage),
    check(Suite::Enrichment, "OBLITERATUS/CL4R1T4S output", enrichment::output),
    check(Suite::Enrichment, "format", enrichment::format),
    check(Suite::Enrichment, "count", enrichment::count),
    check(Suite::TrainingConfig, "YAML validity", training_config::yaml_validity),
    check(Suite::TrainingConfig, "param ranges: LoRA", training_config::lora_ranges),
    check(Suite::TrainingConfig, "param ranges: schedule", training_config::schedule_ranges),
    check(Suite::ModelAvailability, "config.json", model_files::config_json),
    check(Suite::ModelAvailability, "safetensors", model_files::safetensors),
    check(Suite::ModelAvailability, "tokenizer", model_files::tokenizer),
    check(Suite::ModelAvailability, "chat template", model_files::chat_template),
    check(Suite::TrainingRuns, "2-iter execution", training_runs::two_iterations),
    check(Suite::TrainingRuns, "peak memory < 60GB", training_runs::peak_memory),
    check(Suite::PipelineConfig, "Default=gemma4", pipeline_config::default_gemma4),
    check(Suite::PipelineConfig, "paths", pipeline_config::paths),
    check(Suite::PipelineConfig, "qwen fallback", pipeline_config::qwen_fallback),
    check(Suite::PipelineConfig, "score fix", pipeline_config::score_fix),
    check(Suite::Benchmark, "Carmack eval exists", benchmark::exists),
    check(Suite::Benchmark, "Carmack eval loads", benchmark::loads),
    check(Suite::Machine, "disk", machine::disk),
    check(Suite::Machine, "memory", machine::memory),
    check(Suite::Machine, "lock", machine::lock),
    check(Suite::Machine, "clock", machine::clock),
    check(Suite::Machine, "schedule", machine::schedule),
    check(Suite::Tonight, "config lints", tonight::config_lints),
    check(Suite::Tonight, "adapter keys", tonight::adapter_keys),
    check(Suite::Tonight, "suite check", tonight::suite_check),
    check(Suite::Tonight, "contamination", tonight::contamination),
    check(Suite::Tonight, "dress rehearsal", tonight::dress_rehearsal),
    check(Suite::Tonight, "previous night", tonight::previous_night),
];

/// The checks before a night.
///
/// They rehearse it in a scratch folder beside the real one, with the real stages: all rows are
/// converted and enriched, two iterations are trained, and their adapter sits a small exam before
/// the real gate. Of a model that is too large to try only headers are read.
///
/// ```no_run
/// use pipeline::{Choice, NightFile, Preflight};
///
/// let file = NightFile::load("fixtures/sanctum.yaml")?;
/// let report = Preflight::new(file, Choice::from_env()).run(&mut |_| ())?;
/// println!("{}", report.line);
/// # Ok::<(), pipeline::Error>(())
/// ```
#[derive(Debug)]
pub struct Preflight {
    file: NightFile,
    choice: Choice,
    home: Option<PathBuf>,
    timers: Tried<Option<Timers>>,
}

impl Preflight {
    /// The checks before a night with the chosen model.
    pub fn new(file: NightFile, choice: Choice) -> Self {
        Self { file, choice, home: None, timers: Tried::Done(None) }
    }

    /// In another home than the file says.
    pub fn in_home(self, home: Option<PathBuf>) -> Self {
        Self { home, ..self }
    }

    /// With what the system holds of the schedule, or why it does not tell.
    pub fn with_timers(self, timers: Result<Timers>) -> Self {
        Self { timers: Tried::from(timers.map(Some)), ..self }
    }

    /// Makes every check, tells what it is at, and leaves the report in the home.
    ///
    /// # Errors
    /// A choice that the file does not have, or a place in which nothing can be rehearsed. Whatever
    /// else is wrong is a finding.
    pub fn run(self, tell: &mut dyn FnMut(&str)) -> Result<PreflightReport> {
        let begun = Instant::now();
        let Self { file, choice, home, timers } = self;
        let scene = Scene::rehearse(&file, &choice, home, timers, tell)?;
        let checks = CHECKS.iter().map(|check| {
            let Finding { status, detail } = (check.look)(&scene);
            let detail = detail.split_whitespace().collect::<Vec<_>>().join(" ");
            Checked { suite: check.suite, check: check.name, status, detail }
        });
        let model = match &choice {
            Choice::Default => file.default_model(),
            Choice::Named { name, .. } => name.clone(),
        };
        let path = file.path().to_path_buf();
        let seconds = begun.elapsed().as_secs_f64();
        let report = PreflightReport::new(path, model, seconds, checks.collect());
        if let Some(home) = scene.home.done() {
            // A report that cannot be left there is no reason to withhold it here.
            let _ = durable::write_json(home.path().join("preflight.json"), &report);
        }
        Ok(report)
    }
}
