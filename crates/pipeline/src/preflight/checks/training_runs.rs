//! Training Runs: two iterations, and their memory.

use lora_train::memory::device_memory;

use crate::config::NightConfig;
use crate::format;
use crate::preflight::finding::Finding;
use crate::preflight::rehearsal::Rehearsal;
use crate::preflight::training_trial::TrainingTrial;

/// Two iterations succeed, on rows that include the longest.
pub(super) fn two_iterations(rehearsal: &Rehearsal<'_>) -> Finding {
    rehearsal.training.judge(|steps| {
        let Some(run) = &steps.run else {
            let plan = &steps.plan;
            return Finding::not_run(format!("too large to try on a CPU; the plan: {plan}"));
        };
        let losses: Vec<_> = run.losses.iter().map(|loss| format!("{loss:.2}")).collect();
        let seconds = run.trained.seconds;
        match losses.len() {
            2 => Finding::passed(format!(
                "losses {} in {}",
                losses.join(" and "),
                format::duration(seconds)
            )),
            made => Finding::failed(format!("expected 2 updates, found {made}")),
        }
    })
}

/// Neither the memory of the two iterations nor that of the plan is above the limit.
pub(super) fn peak_memory(rehearsal: &Rehearsal<'_>) -> Finding {
    let Some(limit) = limit(&rehearsal.config) else {
        return Finding::not_run("the memory of this device is not known");
    };
    rehearsal.training.needed("a plan", |steps| {
        let expected = steps.plan.estimated_memory_bytes;
        let text = format!(
            "{} measured, {} expected, {} allowed",
            measured(steps),
            format::bytes(expected),
            format::bytes(limit),
        );
        match peak(steps).max(expected) <= limit {
            true => Finding::passed(text),
            false => Finding::failed(text),
        }
    })
}

/// The most memory that training may take: as the file says, or what the device has.
pub(super) fn limit(config: &NightConfig) -> Option<u64> {
    let written = config.preflight.peak_memory.or(config.budgets.memory);
    written.map(|limit| limit.0).or_else(device_memory)
}

/// Peak memory of the two iterations: the larger of MLX's peak and the resident set.
fn peak(steps: &TrainingTrial) -> u64 {
    steps.run.as_ref().map_or(0, |run| run.trained.peak_memory_bytes.max(run.trained.rss_bytes))
}

fn measured(steps: &TrainingTrial) -> String {
    match peak(steps) {
        0 => "nothing".to_owned(),
        bytes => format::bytes(bytes),
    }
}
