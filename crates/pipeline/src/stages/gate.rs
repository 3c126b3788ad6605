//! The stage `gate`: decides whether the candidate may replace the champion.

use eval::{CheckResult, Policy, Verdict};
use serde::{Deserialize, Serialize};

use super::exam::{ExamFiles, ExamRuns};
use super::fresh_exam::{FreshResult, FreshRuns};
use crate::error::Result;
use crate::stage::{Artefact, Stage, StageContext};
use crate::stages::StageName;

#[derive(Serialize)]
pub(crate) struct Gate<'a> {
    pub exams: &'a ExamFiles,
    pub fresh: &'a FreshResult,
    pub policy: &'a Policy,
    /// Results of checks by earlier stages.
    pub checks: &'a [CheckResult],
    /// The runs in `exams`, loaded.
    #[serde(skip)]
    pub runs: &'a ExamRuns,
    /// Those in `fresh`.
    #[serde(skip)]
    pub fresh_runs: &'a FreshRuns,
}

/// The verdict and its file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GateResult {
    pub verdict: Verdict,
    pub file: Artefact,
}

impl Stage for Gate<'_> {
    const NAME: StageName = StageName::Gate;
    type Output = GateResult;

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<GateResult> {
        let fresh = self.fresh_runs.evidence();
        let evidence = self.runs.evidence(self.exams, fresh, self.checks);
        let verdict = eval::Gate::new(self.policy.clone())?.decide(&evidence)?;
        let path = ctx.dir.join("verdict.json");
        durable::write_json(&path, &verdict)?;
        Ok(GateResult { verdict, file: ctx.artefact(&path)? })
    }

    fn artefacts(output: &GateResult) -> Vec<&Artefact> {
        vec![&output.file]
    }

    fn describe(output: &GateResult) -> String {
        let rules = &output.verdict.rules;
        let passed = rules.iter().filter(|rule| rule.passed).count();
        format!("{passed} of {} rules pass", rules.len())
    }
}
