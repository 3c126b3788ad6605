//! Candidate against champion: the verdict.

use eval::{CheckResult, Evidence, ExamRun, Gate as Judge, Policy, Reference, Verdict};
use serde::{Deserialize, Serialize};

use super::exam::{Exams, RunFiles};
use crate::error::Result;
use crate::stage::{Artefact, Desk, Stage, StageName};

/// What the verdict rests on.
#[derive(Serialize)]
pub(crate) struct Gate<'a> {
    /// The runs.
    pub exams: &'a Exams,
    /// The rules.
    pub policy: &'a Policy,
    /// What earlier stages checked.
    pub checks: &'a [CheckResult],
}

/// The verdict, also as a file for people.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    /// `verdict.json`.
    pub file: Artefact,
}

impl Stage for Gate<'_> {
    const NAME: StageName = StageName::Gate;
    type Output = Judged;

    fn run(&self, desk: &mut Desk<'_>) -> Result<Judged> {
        let load = |files: &RunFiles| files.load(desk.night());
        let candidate = load(&self.exams.candidate)?;
        let (reference, against): (ExamRun, _) = match &self.exams.champion {
            Some(champion) => (load(champion)?, Reference::Champion),
            None => (load(&self.exams.base)?, Reference::Base),
        };
        let evidence = Evidence {
            candidates: vec![&candidate],
            reference: &reference,
            against,
            checks: self.checks.to_vec(),
        };
        let verdict = Judge::new(self.policy.clone())?.decide(&evidence)?;
        let path = desk.dir().join("verdict.json");
        durable::write_json(&path, &verdict)?;
        Ok(Judged { verdict, file: desk.artefact(&path)? })
    }

    fn artefacts(output: &Judged) -> Vec<&Artefact> {
        vec![&output.file]
    }

    fn figures(output: &Judged) -> String {
        let rules = &output.verdict.rules;
        let passed = rules.iter().filter(|rule| rule.passed).count();
        format!("{passed} of {} rules pass", rules.len())
    }
}
