//! The stage `gate`: decides whether the candidate may replace the champion.

use eval::gate::Reference;
use eval::{CheckResult, Policy, SCORING_VERSION, Verdict};
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

impl Gate<'_> {
    /// The policy's verdict; a refusal if an exam was not taken to its end.
    fn verdict(&self) -> Result<Verdict> {
        let exams =
            [("standing", self.exams.unfinished.as_deref()), ("fresh", self.fresh.unfinished())];
        let unfinished = exams.into_iter().find_map(|(exam, far)| Some((exam, far?)));
        if let Some((exam, far)) = unfinished {
            let reference = match self.runs.champion {
                Some(_) => Reference::Champion,
                None => Reference::Base,
            };
            let sentence = format!("time was up after {far} to the {exam} exam.");
            return Ok(Verdict::without_evidence(reference, SCORING_VERSION, sentence));
        }
        let fresh = self.fresh_runs.evidence();
        let evidence = self.runs.evidence(self.exams, fresh, self.checks);
        Ok(eval::Gate::new(self.policy.clone())?.decide(&evidence)?)
    }
}

impl Stage for Gate<'_> {
    const NAME: StageName = StageName::Gate;
    type Output = GateResult;

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<GateResult> {
        let verdict = self.verdict()?;
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
