//! The stages after training, in order: exam, fresh exam, gate, promote, report.

use durable::Digest;
use eval::{BestScores, Check, CheckResult, ExamOptions, Policy, SCORING_VERSION, Suite};
use lora_train::TrainConfig;

use super::convert::CleanRows;
use super::enrich::Splits;
use super::exam::{Exam, ExamFiles, ExamRuns};
use super::fresh_exam::{FreshExam, FreshSource};
use super::gate::{Gate, GateResult};
use super::prefer::Trained;
use super::promote::{Promote, PromotionOutcome};
use super::smoke_test::SmokeTest;
use crate::accounting::RowAccount;
use crate::base_model::BaseModel;
use crate::config::ServingConfig;
use crate::drift::DriftPlan;
use crate::error::Result;
use crate::memory_fallback::MemoryFallback;
use crate::registry::BaseRegistry;
use crate::report::NightReport;
use crate::runner::Runner;
use crate::serving::Paused;
use crate::stage::Artefact;
use crate::stages::StageName;
use crate::summary::{NewRows, Scores};

/// The trained adapters and everything needed to evaluate the candidate.
pub(crate) struct Evaluation<'a> {
    pub id: &'a str,
    pub model: &'a BaseModel,
    pub clean: &'a CleanRows,
    /// What became of the raw rows.
    pub rows: &'a RowAccount,
    /// The rows that the last night did not have.
    pub new_rows: Option<&'a NewRows>,
    pub splits: &'a Splits,
    pub trained: Trained<'a>,
    /// The champion to compare with; `None` for the base model.
    pub champion: Option<Digest>,
    pub suite: &'a Suite,
    pub options: &'a ExamOptions,
    pub policy: &'a Policy,
    /// Where the fresh exam comes from.
    pub fresh: &'a FreshSource,
    /// Ids of the cases that training rows are too similar to.
    pub contaminated: &'a [String],
    /// The registry of the base model.
    pub registry: &'a BaseRegistry,
    /// What happens when another champion should serve.
    pub serving: &'a ServingConfig,
    pub paused: &'a Paused<'a>,
    /// How drifts from the base are measured, if they are.
    pub drift: Option<&'a DriftPlan>,
    /// The recipe with the memory limit of the models that answer.
    pub recipe: &'a TrainConfig,
}

/// The outputs of the stages.
pub(crate) struct EvaluationOutcome {
    pub exams: ExamFiles,
    /// What was done before the time was spent, if it was.
    pub partial: Option<String>,
    pub runs: ExamRuns,
    pub scores: Scores,
    pub gate: GateResult,
    pub promotion: PromotionOutcome,
    pub report: Artefact,
}

impl Evaluation<'_> {
    /// Runs the stages. One that runs out of memory goes on within a lower limit, which `memory` remembers.
    pub fn run(
        &self,
        runner: &mut Runner<'_>,
        memory: &mut MemoryFallback,
    ) -> Result<EvaluationOutcome> {
        let Self { id, model, clean, rows, splits, champion, .. } = *self;
        let trained = self.trained.candidate();
        let Self { suite, options, registry, drift, .. } = *self;
        let exam = Exam {
            model,
            trained,
            champion,
            suite_digest: suite.digest(),
            options,
            scoring_version: SCORING_VERSION,
            drift,
            suite,
            registry,
            serving: self.serving,
        };
        let stage = |stage| (stage, self.recipe);
        let exams =
            memory.within_memory(runner, stage(StageName::Exam), |runner, _| runner.run(&exam))?;
        let runs = exams.load(runner.night)?;
        let scores = Scores::of(&runs)?;
        let (checks, policy) = (checks(self.contaminated), self.policy);
        let fresh = FreshExam {
            id,
            model,
            trained,
            champion,
            exams: &exams,
            splits,
            source: self.fresh,
            embedded: enrich::embedded_data(),
            options,
            policy,
            checks: &checks,
            suite,
            registry,
            runs: &runs,
            serving: self.serving,
        };
        let fresh = memory
            .within_memory(runner, stage(StageName::FreshExam), |runner, _| runner.run(&fresh))?;
        let fresh_runs = fresh.load(runner.night)?;
        let gate = runner.run(&Gate {
            exams: &exams,
            fresh: &fresh,
            policy,
            checks: &checks,
            runs: &runs,
            fresh_runs: &fresh_runs,
        })?;
        let unfinished = [exams.unfinished.as_deref(), fresh.unfinished()];
        let partial = self.trained.partial().into_iter();
        let partial = partial.chain(unfinished.into_iter().flatten().map(str::to_owned));
        let partial: Vec<String> = partial.collect();
        let partial = (!partial.is_empty()).then(|| partial.join(" and "));
        let verdict = &gate.verdict;
        let mut served = BestScores::of_run(&runs.candidate)?;
        if let Some(champion) = &runs.champion {
            served.raise(&BestScores::of_run(champion)?);
        }
        let smoke_test = SmokeTest { model, suite, options, candidate: &runs.candidate };
        let promote = Promote {
            id,
            trained,
            partial: partial.as_deref(),
            champion,
            verdict,
            exam: exam.id(),
            scores: served,
            smoke_test,
            registry,
            serving: self.serving,
        };
        // The endpoint is asked after the promotion.
        self.paused.resume()?;
        let promotion = memory
            .within_memory(runner, stage(StageName::Promote), |runner, _| runner.run(&promote))?;
        let stages = runner.done.clone();
        let report = runner.run(&NightReport {
            id,
            model,
            model_name: model.name(),
            clean,
            rows,
            new_rows: self.new_rows,
            splits,
            trained: self.trained.supervised,
            preferred: self.trained.preferred,
            partial: partial.as_deref(),
            champion,
            exams: &exams,
            fresh: &fresh,
            verdict,
            standing: &promotion,
            runs: &runs,
            scores: &scores,
            stages: &stages,
        })?;
        Ok(EvaluationOutcome { exams, partial, runs, scores, gate, promotion, report })
    }
}

/// The checks that the gate requires. The adapter check has no problems: loading the adapter in the
/// exam already fails on any wrong tensor name or shape.
fn checks(contaminated: &[String]) -> Vec<CheckResult> {
    vec![
        CheckResult { check: Check::Contamination, problems: contaminated.to_vec() },
        CheckResult { check: Check::Adapter, problems: vec![] },
    ]
}
