//! The stage `promote`: carries the verdict out in the registry, then smoke-tests the champion.

use durable::Digest;
use eval::{BestScores, Verdict};
use serde::{Deserialize, Serialize};

use super::smoke_test::{Fault, SmokeTest};
use super::train::TrainedAdapter;
use crate::config::ServingConfig;
use crate::error::Result;
use crate::registry::{BaseRegistry, ExamId, Promotion, Requester};
use crate::serving;
use crate::stage::{Artefact, Stage, StageContext};
use crate::stages::StageName;

#[derive(Serialize)]
pub(crate) struct Promote<'a> {
    /// The night's id. A night promotes at most once.
    pub id: &'a str,
    #[serde(serialize_with = "TrainedAdapter::applied")]
    pub trained: &'a TrainedAdapter,
    /// What was done before the wall-clock budget was spent, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial: Option<&'a str>,
    /// The champion that the candidate was compared with; `None` for the base model.
    pub champion: Option<Digest>,
    pub verdict: &'a Verdict,
    /// The exam whose best scores a promotion raises.
    pub exam: ExamId,
    /// The mean scores of the candidate, and of the champion it replaces.
    #[serde(skip)]
    pub scores: BestScores,
    #[serde(skip)]
    pub smoke_test: SmokeTest<'a>,
    #[serde(skip)]
    pub registry: &'a BaseRegistry,
    #[serde(skip)]
    pub serving: &'a ServingConfig,
}

/// What came of the verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PromotionOutcome {
    /// The candidate is champion.
    Promoted,
    /// The candidate was refused; the champion stays.
    Refused,
    /// The candidate won, but the champion was replaced by hand during the night.
    #[serde(rename = "overtaken")]
    ChampionChanged,
    /// The candidate won, but the champion is pinned.
    Pinned,
    /// The candidate won, but it was champion before and was rolled back.
    FailedBefore,
    /// The candidate was promoted and taken back, for this reason.
    RolledBack(String),
}

impl PromotionOutcome {
    /// Why the verdict was not carried out, if it was not.
    pub fn deviation(&self) -> Option<String> {
        match self {
            PromotionOutcome::Promoted | PromotionOutcome::Refused => None,
            other => Some(Promote::describe(other)),
        }
    }
}

impl Stage for Promote<'_> {
    const NAME: StageName = StageName::Promote;
    const VERSION: u32 = 2;
    type Output = PromotionOutcome;

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<PromotionOutcome> {
        let adapter = self.registry.nominate(&ctx.night.join(&self.trained.folder))?;
        if !self.verdict.promotes() {
            return Ok(PromotionOutcome::Refused);
        }
        let mandate = Requester::Night { id: self.id, against: self.champion };
        let reason = match self.partial {
            Some(partial) => format!("{} (partial: {partial})", self.verdict.reason),
            None => self.verdict.reason.clone(),
        };
        match self.registry.promote(adapter, mandate, &reason)? {
            Promotion::Done | Promotion::AlreadyDone => self.confirm(ctx, adapter),
            Promotion::ChampionChanged => Ok(PromotionOutcome::ChampionChanged),
            Promotion::Pinned => Ok(PromotionOutcome::Pinned),
            Promotion::FailedBefore => Ok(PromotionOutcome::FailedBefore),
        }
    }

    fn artefacts(_: &PromotionOutcome) -> Vec<&Artefact> {
        vec![]
    }

    fn describe(output: &PromotionOutcome) -> String {
        match output {
            PromotionOutcome::Promoted => "the candidate is champion".to_owned(),
            PromotionOutcome::Refused => "the candidate stays candidate".to_owned(),
            PromotionOutcome::ChampionChanged => "another champion was chosen meanwhile".to_owned(),
            PromotionOutcome::Pinned => "the champion is pinned".to_owned(),
            PromotionOutcome::FailedBefore => {
                "the same adapter was champion before and was rolled back; `champion promote` makes it champion again"
                    .to_owned()
            }
            PromotionOutcome::RolledBack(why) => format!("rolled back: {why}"),
        }
    }
}

impl Promote<'_> {
    /// Runs the smoke test, and takes the champion back if it must not stay. An error that is nobody's fault of these (a full
    /// disk, no memory) ends the stage instead: the champion does not serve yet, and the next start tests it again.
    fn confirm(&self, ctx: &mut StageContext<'_>, adapter: Digest) -> Result<PromotionOutcome> {
        if self.registry.state()?.champion != Some(adapter) {
            // An earlier start, killed after its rollback, or a rollback by hand.
            return Ok(PromotionOutcome::RolledBack("before this start".to_owned()));
        }
        let fault = match self.smoke_test.fault(ctx, self.registry, adapter)? {
            None => self.serve(ctx)?.map(Fault::Server),
            fault => fault,
        };
        match fault {
            None => {
                self.registry.raise_best(&self.exam, &self.scores)?;
                Ok(PromotionOutcome::Promoted)
            }
            Some(fault) => {
                let problem = fault.to_string();
                let reason = format!("after {}: {problem}", self.id);
                let state = match fault {
                    Fault::Adapter(_) => self.registry.rollback(&reason)?,
                    Fault::Copy(_) | Fault::Server(_) => self.registry.withdraw(&reason)?,
                };
                // Servers that follow the file go back; the program is told again.
                let home = self.registry.all().home();
                let contract = serving::publish(home, self.smoke_test.model, &state)?;
                if let Some(error) = serving::tell(self.serving, &contract) {
                    tracing::error!("{error}");
                }
                Ok(PromotionOutcome::RolledBack(problem))
            }
        }
    }

    /// Says that the new champion should serve, and asks the endpoint that serves. Returns why it does not serve.
    fn serve(&self, ctx: &mut StageContext<'_>) -> Result<Option<String>> {
        let state = self.registry.state()?;
        let contract = serving::publish(self.registry.all().home(), self.smoke_test.model, &state)?;
        if let Some(error) = serving::tell(self.serving, &contract) {
            return Ok(Some(error));
        }
        ctx.progress(0, 0, "asking the endpoint that serves");
        Ok(serving::ask(self.serving, &contract, &self.smoke_test.question()))
    }
}
