//! The verdict carried out.

use durable::Digest;
use eval::Verdict;
use serde::{Deserialize, Serialize};

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
    /// Where it is carried out.
    #[serde(skip)]
    pub registry: &'a Registry,
}

/// How things stand after the night.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// The candidate serves.
    Promoted,
    /// The candidate was refused; whoever served still does.
    Refused,
    /// The candidate won against a champion that, meanwhile, someone replaced by hand.
    Overtaken,
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
        Ok(match self.registry.promote(adapter, mandate, &self.verdict.reason)? {
            Promotion::Done | Promotion::AlreadyDone => Standing::Promoted,
            Promotion::Overtaken => Standing::Overtaken,
        })
    }

    fn artefacts(_: &Standing) -> Vec<&Artefact> {
        vec![]
    }

    fn figures(output: &Standing) -> String {
        match output {
            Standing::Promoted => "the candidate is champion".to_owned(),
            Standing::Refused => "the candidate stays candidate".to_owned(),
            Standing::Overtaken => "another champion was chosen meanwhile".to_owned(),
        }
    }
}
