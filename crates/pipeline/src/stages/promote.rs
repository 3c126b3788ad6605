//! The verdict carried out.

use durable::Digest;
use eval::Verdict;
use serde::{Deserialize, Serialize};

use super::smoke::Smoke;
use super::train::Trained;
use crate::error::Result;
use crate::registry::{Mandate, Promotion, Registry};
use crate::stage::{Artefact, Desk, Stage, StageName};

/// Who may take over from whom.
#[derive(Serialize)]
pub(crate) struct Promote<'a> {
    /// The night's id: a night promotes at most once.
    pub id: &'a str,
    /// The candidate.
    pub trained: &'a Trained,
    /// Whom it was measured against.
    pub champion: Option<Digest>,
    /// How that ended.
    pub verdict: &'a Verdict,
    /// What the new champion is asked.
    #[serde(skip)]
    pub smoke: Smoke<'a>,
    /// Where it is carried out.
    #[serde(skip)]
    pub registry: &'a Registry,
}

/// How things stand after the night.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// The candidate serves.
    Promoted,
    /// The candidate was refused; whoever served still does.
    Refused,
    /// The candidate won against a champion that, meanwhile, someone replaced by hand.
    Overtaken,
    /// The candidate won against a champion that is pinned.
    Pinned,
    /// The candidate served for a moment; then it failed the smoke test.
    RolledBack(String),
}

impl Standing {
    /// What came of a verdict that was not simply carried out.
    pub fn beside_the_verdict(&self) -> Option<String> {
        match self {
            Standing::Promoted | Standing::Refused => None,
            other => Some(Promote::figures(other)),
        }
    }
}

impl Stage for Promote<'_> {
    const NAME: StageName = StageName::Promote;
    type Output = Standing;

    fn run(&self, desk: &mut Desk<'_>) -> Result<Standing> {
        let adapter = self.registry.nominate(&desk.night().join(&self.trained.folder))?;
        if !self.verdict.promotes() {
            return Ok(Standing::Refused);
        }
        let mandate = Mandate::Night { id: self.id, against: self.champion };
        let reason = match self.trained.partial() {
            Some(planned) => format!(
                "{} (partial: {} of {planned} updates)",
                self.verdict.reason, self.trained.updates
            ),
            None => self.verdict.reason.clone(),
        };
        match self.registry.promote(adapter, mandate, &reason)? {
            Promotion::Done | Promotion::AlreadyDone => self.confirm(desk, adapter),
            Promotion::Overtaken => Ok(Standing::Overtaken),
            Promotion::Pinned => Ok(Standing::Pinned),
        }
    }

    fn artefacts(_: &Standing) -> Vec<&Artefact> {
        vec![]
    }

    fn figures(output: &Standing) -> String {
        match output {
            Standing::Promoted => "the candidate is champion".to_owned(),
            Standing::Refused => "the candidate stays candidate".to_owned(),
            Standing::Overtaken => "another champion was chosen meanwhile".to_owned(),
            Standing::Pinned => "the champion is pinned".to_owned(),
            Standing::RolledBack(why) => format!("rolled back: {why}"),
        }
    }
}

impl Promote<'_> {
    /// The smoke test, and the way back if it fails.
    fn confirm(&self, desk: &mut Desk<'_>, adapter: Digest) -> Result<Standing> {
        if self.registry.state()?.champion != Some(adapter) {
            // A start that was killed here had rolled back already, or somebody did by hand.
            return Ok(Standing::RolledBack("before this start".to_owned()));
        }
        match self.smoke.problem(desk, self.registry, adapter)? {
            None => Ok(Standing::Promoted),
            Some(problem) => {
                self.registry.rollback(&format!("after {}: {problem}", self.id))?;
                Ok(Standing::RolledBack(problem))
            }
        }
    }
}
