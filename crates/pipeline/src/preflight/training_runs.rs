//! Training Runs: two iterations, and what they take.

use super::finding::Finding;
use super::scene::Scene;
use super::two_steps::TwoSteps;
use crate::report::words;

/// What the seed allows.
const SEED_LIMIT: u64 = 60_000_000_000;

/// Two real iterations, the longest row among theirs; of a model that is too large for that here,
/// the plan.
pub(super) fn two_iterations(scene: &Scene<'_>) -> Finding {
    scene.two_steps.judge(|steps| {
        let Some(taken) = &steps.taken else {
            let plan = &steps.plan;
            return Finding::warning(format!("too large to try on a CPU; the plan: {plan}"));
        };
        let losses = taken.updates.iter().map(|update| format!("{:.2}", update.loss));
        let losses: Vec<_> = losses.collect();
        let seconds: f64 = taken.updates.iter().map(|update| update.seconds).sum();
        match losses.len() {
            2 => Finding::passed(format!(
                "losses {} in {}",
                losses.join(" and "),
                words::duration(seconds)
            )),
            made => Finding::failed(format!("expected 2 updates, found {made}")),
        }
    })
}

/// Neither what two iterations took nor what the whole run is expected to take is too much.
pub(super) fn peak_memory(scene: &Scene<'_>) -> Finding {
    let ceiling = scene.config.budgets.memory.map_or(SEED_LIMIT, |ceiling| ceiling.0);
    scene.two_steps.needed("a plan", |steps| {
        let limit = words::bytes(ceiling);
        let expected = steps.plan.estimated_memory_bytes;
        let text = format!(
            "{} measured, {} expected, {limit} allowed",
            measured(steps),
            words::bytes(expected)
        );
        match most(steps).max(expected) <= ceiling {
            true => Finding::passed(text),
            false => Finding::failed(text),
        }
    })
}

/// The most that the two iterations took, in MLX or in the process.
fn most(steps: &TwoSteps) -> u64 {
    let Some(taken) = &steps.taken else { return 0 };
    let resident = taken.updates.iter().map(|update| update.rss_bytes).max().unwrap_or_default();
    taken.peak_memory_bytes.max(resident)
}

fn measured(steps: &TwoSteps) -> String {
    match most(steps) {
        0 => "nothing".to_owned(),
        bytes => words::bytes(bytes),
    }
}
