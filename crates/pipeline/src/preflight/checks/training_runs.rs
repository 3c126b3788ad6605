//! Training Runs: two iterations, and their memory.

use crate::format;
use crate::preflight::finding::Finding;
use crate::preflight::rehearsal::Rehearsal;
use crate::preflight::training_trial::TrainingTrial;

/// The default memory limit, from the seed.
const SEED_LIMIT: u64 = 60_000_000_000;

/// Two iterations succeed, on rows that include the longest. For a model that is too large for that,
/// a warning with the plan.
pub(super) fn two_iterations(rehearsal: &Rehearsal<'_>) -> Finding {
    rehearsal.training.judge(|steps| {
        let Some(run) = &steps.run else {
            let plan = &steps.plan;
            return Finding::warning(format!("too large to try on a CPU; the plan: {plan}"));
        };
        let losses = run.updates.iter().map(|update| format!("{:.2}", update.loss));
        let losses: Vec<_> = losses.collect();
        let seconds: f64 = run.updates.iter().map(|update| update.seconds).sum();
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
    let ceiling = rehearsal.config.budgets.memory.map_or(SEED_LIMIT, |ceiling| ceiling.0);
    rehearsal.training.needed("a plan", |steps| {
        let limit = format::bytes(ceiling);
        let expected = steps.plan.estimated_memory_bytes;
        let text = format!(
            "{} measured, {} expected, {limit} allowed",
            measured(steps),
            format::bytes(expected)
        );
        match peak(steps).max(expected) <= ceiling {
            true => Finding::passed(text),
            false => Finding::failed(text),
        }
    })
}

/// Peak memory of the two iterations: the larger of MLX's peak and the resident set.
fn peak(steps: &TrainingTrial) -> u64 {
    let Some(run) = &steps.run else { return 0 };
    let resident = run.updates.iter().map(|update| update.rss_bytes).max().unwrap_or_default();
    run.peak_memory_bytes.max(resident)
}

fn measured(steps: &TrainingTrial) -> String {
    match peak(steps) {
        0 => "nothing".to_owned(),
        bytes => format::bytes(bytes),
    }
}
