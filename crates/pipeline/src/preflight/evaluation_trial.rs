//! The stages after training, with the adapter of two iterations and a few questions.

use std::fs;
use std::path::Path;

use eval::{ExamOptions, Policy, Sampling, Suite, Tier};
use lora_train::TrainConfig;

use super::scratch::run_stages;
use crate::accounting::RowAccount;
use crate::base_model::BaseModel;
use crate::config::ServingConfig;
use crate::error::Result;
use crate::home::Home;
use crate::memory_fallback::MemoryFallback;
use crate::registry::{Registry, Requester};
use crate::serving;
use crate::stage::Stage;
use crate::stages::StageName;
use crate::stages::convert::CleanRows;
use crate::stages::enrich::Splits;
use crate::stages::evaluation::{Evaluation, EvaluationOutcome};
use crate::stages::exam::Exam;
use crate::stages::fresh_exam::FreshSource;
use crate::stages::gate::Gate;
use crate::stages::prefer::Trained;
use crate::stages::promote::Promote;
use crate::stages::train::TrainedAdapter;

/// Number of held-out questions, and of others.
const QUESTIONS: usize = 2;
/// Length limit of an answer in tokens. The scores do not matter here.
const TOKENS: usize = 8;

pub(super) struct EvaluationInputs<'a> {
    /// The scratch night's folder.
    pub night: &'a Path,
    pub base: &'a BaseModel,
    pub clean: &'a CleanRows,
    pub splits: &'a Splits,
    pub trained: &'a TrainedAdapter,
    pub suite: &'a Suite,
    pub options: &'a ExamOptions,
    pub policy: &'a Policy,
    pub recipe: &'a TrainConfig,
    /// The night's.
    pub memory_limit: u64,
}

#[derive(Debug)]
pub(super) struct EvaluationTrial {
    /// One line for each stage.
    pub figures: Vec<String>,
    pub adapter_bytes: u64,
    /// Seconds of the small exam, of base and candidate.
    exam_seconds: f64,
    /// Its questions.
    asked: usize,
}

impl EvaluationTrial {
    /// Runs the stages.
    pub fn run(inputs: &EvaluationInputs<'_>) -> Result<Self> {
        let EvaluationInputs { night, base: model, clean, splits, trained, policy, .. } = *inputs;
        let home = Home::open(night.with_file_name("home"))?;
        let registry = Registry::new(&home).of(model.sha256, &model.path);
        let mut memory = MemoryFallback::open(&home)?;
        // No server is told of a rehearsal.
        let no_server = ServingConfig::default();
        let (suite, options) = (few_cases(inputs.suite), short_answers(inputs.options));
        let evaluation = Evaluation {
            id: "0000-rehearsal",
            model,
            clean,
            rows: &RowAccount::of(clean, splits, trained),
            new_rows: None,
            splits,
            trained: Trained { supervised: trained, preferred: None },
            champion: None,
            suite: &suite,
            options: &options,
            policy,
            // The rehearsal must not use up an exam.
            fresh: &FreshSource::None,
            // Reported by a check of its own.
            contaminated: &[],
            registry: &registry,
            serving: &no_server,
            paused: &serving::pause(&no_server)?,
            drift: None,
            recipe: inputs.recipe,
        };
        let mut exam_seconds = 0.0;
        let EvaluationOutcome { exams, gate, promotion, .. } =
            run_stages(night, inputs.memory_limit, |runner| {
                let outcome = evaluation.run(runner, &mut memory)?;
                let exam = runner.done.iter().find(|stage| stage.stage == StageName::Exam);
                exam_seconds = exam.map_or(0.0, |stage| stage.seconds);
                Ok(outcome)
            })?;
        // Promotion and rollback, whatever the verdict was.
        registry.promote(trained.adapter, Requester::Operator, "rehearsal")?;
        let weights = registry.verified(trained.adapter)?.join("adapters.safetensors");
        let adapter_bytes = fs::metadata(weights).map_or(0, |file| file.len());
        registry.rollback("rehearsal")?;
        let figures =
            [Exam::describe(&exams), Gate::describe(&gate), Promote::describe(&promotion)];
        let asked = suite.cases.len();
        Ok(Self { figures: figures.into(), adapter_bytes, exam_seconds, asked })
    }
}

impl EvaluationTrial {
    /// Seconds that so many questions take, at most: asked of three models, and answered at full length.
    pub fn seconds_of(&self, questions: usize, options: &ExamOptions) -> f64 {
        let length = options.sampling.max_tokens as f64
            / TOKENS.min(options.sampling.max_tokens).max(1) as f64;
        let times = (questions * options.seeds.len()) as f64 / self.asked.max(1) as f64;
        1.5 * self.exam_seconds * times * length
    }
}

/// A few cases, some of them held out: the gate gives no verdict without held-out cases.
fn few_cases(suite: &Suite) -> Suite {
    let held_out = |case: &&eval::Case| case.tier == Tier::HeldOut;
    let (held_out, open): (Vec<_>, Vec<_>) = suite.cases.iter().partition(held_out);
    let some = [held_out, open].into_iter().flat_map(|cases| cases.into_iter().take(QUESTIONS));
    let ids: Vec<_> = some.map(|case| case.id.clone()).collect();
    let mut few = suite.clone();
    few.cases.retain(|case| ids.contains(&case.id));
    few
}

fn short_answers(options: &ExamOptions) -> ExamOptions {
    let max_tokens = options.sampling.max_tokens.min(TOKENS);
    ExamOptions { sampling: Sampling { max_tokens, ..options.sampling }, ..options.clone() }
}
