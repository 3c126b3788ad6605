//! The second half of a night, with the adapter of two iterations and a handful of questions.

use std::fs;

use eval::{ExamOptions, Sampling, Suite, Tier};

use super::scene::{Scene, Tried, rehearse};
use super::two_steps::{SMALL, Taken};
use crate::error::Result;
use crate::home::Home;
use crate::registry::{Mandate, Registry};
use crate::stage::Stage;
use crate::stages::exam::Exam;
use crate::stages::gate::Gate;
use crate::stages::promote::Promote;
use crate::stages::second_half::{Decided, SecondHalf};
use crate::stages::train::{Trained, TrainingEnd};

/// Questions of either kind, held out or not.
const QUESTIONS: usize = 2;
/// Tokens of an answer: it is asked whether there is one, not whether it is right.
const TOKENS: usize = 8;

/// What the second half came to.
#[derive(Debug)]
pub(super) struct Dress {
    /// Each stage's own line.
    pub figures: Vec<String>,
    /// The adapter on disk.
    pub adapter_bytes: u64,
}

impl Dress {
    pub fn rehearse(scene: &Scene<'_>) -> Tried<Self> {
        let taken = scene.two_steps.done().and_then(|steps| steps.taken.as_ref());
        let (Some(taken), Some(suite)) = (taken, scene.suite.done()) else {
            return Tried::Missed("an adapter of two iterations and a suite");
        };
        let small = |model: &models::Model| model.config().num_weights() <= SMALL;
        match scene.opened.done().is_some_and(|opened| small(&opened.model)) {
            true => Tried::from(Self::of(scene, taken, suite)),
            false => Tried::Missed("a model that is opened whole; this one is too large to try"),
        }
    }

    fn of(scene: &Scene<'_>, taken: &Taken, suite: &Suite) -> Result<Self> {
        let night = &scene.night;
        let home = Home::open(night.with_file_name("home"))?;
        let registry = Registry::new(&home);
        let (Some(opened), Some(enriched)) = (scene.opened.done(), scene.enriched.done()) else {
            return Ok(Self { figures: vec![], adapter_bytes: 0 });
        };
        let trained = Trained::of(night, &taken.adapter, 2, TrainingEnd::Complete)?;
        let (suite, options) = (few(suite), quick(&scene.config.exam.options));
        let policy = scene.policy.done().cloned().unwrap_or_default();
        let half = SecondHalf {
            id: "0000-rehearsal",
            model: &opened.base,
            splits: &enriched.splits,
            trained: &trained,
            champion: None,
            suite: &suite,
            options: &options,
            policy: &policy,
            // A finding of its own says whether there is any.
            contaminated: &[],
            registry: &registry,
        };
        let Decided { exams, judged, standing, .. } = rehearse(night, |runner| half.run(runner))?;
        // The way there and back, whatever the verdict was.
        registry.promote(trained.adapter, Mandate::Hand, "rehearsal")?;
        let served = registry.verified(trained.adapter)?.join("adapters.safetensors");
        let adapter_bytes = fs::metadata(served).map_or(0, |file| file.len());
        registry.rollback("rehearsal")?;
        let figures = [Exam::figures(&exams), Gate::figures(&judged), Promote::figures(&standing)];
        Ok(Self { figures: figures.into(), adapter_bytes })
    }
}

/// A few questions, some of them held out: without such a one the gate gives no verdict.
fn few(suite: &Suite) -> Suite {
    let held_out = |case: &&eval::Case| case.tier == Tier::HeldOut;
    let cases = suite.cases.iter();
    let (held_out, open): (Vec<_>, Vec<_>) = cases.partition(held_out);
    let some = [held_out, open].into_iter().flat_map(|cases| cases.into_iter().take(QUESTIONS));
    let ids: Vec<_> = some.map(|case| case.id.clone()).collect();
    let mut few = suite.clone();
    few.cases.retain(|case| ids.contains(&case.id));
    few
}

fn quick(options: &ExamOptions) -> ExamOptions {
    let max_tokens = options.sampling.max_tokens.min(TOKENS);
    ExamOptions { sampling: Sampling { max_tokens, ..options.sampling }, ..options.clone() }
}
