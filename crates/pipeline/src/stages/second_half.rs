//! What becomes of a trained adapter: exam, gate, promotion, report.

use durable::Digest;
use eval::{Check, CheckResult, ExamOptions, Policy, SCORING_VERSION, Suite};

use super::enrich::Splits;
use super::exam::{Exam, Exams};
use super::gate::{Gate, Judged};
use super::promote::{Promote, Standing};
use super::smoke::Smoke;
use super::train::Trained;
use crate::error::Result;
use crate::model::BaseModel;
use crate::registry::Registry;
use crate::report::Report;
use crate::runner::Runner;
use crate::stage::Artefact;

/// The adapter, and what it is judged by.
pub(crate) struct SecondHalf<'a> {
    /// The night's id.
    pub id: &'a str,
    /// The base model.
    pub model: &'a BaseModel,
    /// What it was trained on.
    pub splits: &'a Splits,
    /// The adapter.
    pub trained: &'a Trained,
    /// Whom it has to beat.
    pub champion: Option<Digest>,
    /// The exam.
    pub suite: &'a Suite,
    /// How it is put.
    pub options: &'a ExamOptions,
    /// The gate's rules.
    pub policy: &'a Policy,
    /// Cases of the exam that the training rows come near to.
    pub contaminated: &'a [String],
    /// Where whoever serves lies.
    pub registry: &'a Registry,
}

/// What the stages left.
pub(crate) struct Decided {
    pub exams: Exams,
    pub judged: Judged,
    pub standing: Standing,
    pub report: Artefact,
}

impl SecondHalf<'_> {
    /// Runs the stages after training.
    pub fn run(&self, runner: &mut Runner<'_>) -> Result<Decided> {
        let Self { id, model, splits, trained, champion, suite, options, registry, .. } = *self;
        let exams = runner.run(&Exam {
            model,
            trained,
            champion,
            suite_digest: suite.digest(),
            options,
            scoring_version: SCORING_VERSION,
            suite,
            registry,
        })?;
        let checks = checks(self.contaminated);
        let judged = runner.run(&Gate { exams: &exams, policy: self.policy, checks: &checks })?;
        let verdict = &judged.verdict;
        let smoke = Smoke { model, suite, options, exams: &exams };
        let standing = runner.run(&Promote { id, trained, champion, verdict, smoke, registry })?;
        let stages = runner.done.clone();
        let report = runner.run(&Report {
            id,
            model,
            model_name: model.name(),
            splits,
            trained,
            champion,
            exams: &exams,
            verdict,
            standing: &standing,
            stages: &stages,
        })?;
        Ok(Decided { exams, judged, standing, report })
    }
}

/// The checks that earlier stages made for the gate. That the adapter fits the model is checked
/// by loading it, which is strict about every name and shape, so here it is known to be so.
fn checks(contaminated: &[String]) -> Vec<CheckResult> {
    vec![
        CheckResult { check: Check::Contamination, problems: contaminated.to_vec() },
        CheckResult { check: Check::Adapter, problems: vec![] },
    ]
}
