//! The page about a night.

mod compose;
mod dumbbell;
mod html;
mod index;
mod line;
mod openmetrics;
mod page;
mod samples;
mod svg;
pub mod words;

use durable::Digest;
use eval::Verdict;
use lora_train::metrics::Metrics;
use serde::Serialize;

use crate::error::Result;
use crate::model::BaseModel;
use crate::runner::StageSummary;
use crate::stage::{Artefact, Desk, Stage, StageName};
use crate::stages::enrich::Splits;
use crate::stages::exam::{Exams, Runs};
use crate::stages::promote::Standing;
use crate::stages::train::Trained;

pub(crate) use index::write_index;
pub use samples::Sample;
pub(crate) use samples::pick;

/// What the page is about: everything the night found.
#[derive(Serialize)]
pub(crate) struct Report<'a> {
    /// The night's id.
    pub id: &'a str,
    /// The base model.
    pub model: &'a BaseModel,
    /// The base model's name.
    pub model_name: String,
    /// The dataset.
    pub splits: &'a Splits,
    /// The adapter and how it was trained.
    pub trained: &'a Trained,
    /// Who served.
    pub champion: Option<Digest>,
    /// The answers.
    pub exams: &'a Exams,
    /// The verdict.
    pub verdict: &'a Verdict,
    /// What came of it.
    pub standing: &'a Standing,
    /// How the stages went. Not part of the input: the page of a night that was killed is not
    /// another page.
    #[serde(skip)]
    pub stages: &'a [StageSummary],
}

/// The files behind the page.
pub(crate) struct Sources {
    runs: Runs,
    metrics: Metrics,
}

impl Stage for Report<'_> {
    const NAME: StageName = StageName::Report;
    type Output = Artefact;

    fn run(&self, desk: &mut Desk<'_>) -> Result<Artefact> {
        let night = desk.night();
        let sources =
            Sources { runs: self.exams.load(night)?, metrics: self.trained.records(night)? };
        let path = desk.dir().join("report.html");
        durable::write(&path, compose::page(self, &sources)?.html()?)?;
        desk.artefact(&path)
    }

    fn artefacts(output: &Artefact) -> Vec<&Artefact> {
        vec![output]
    }

    fn figures(output: &Artefact) -> String {
        output.path.display().to_string()
    }
}
