//! The stage `report`: writes the HTML report of the night.

use crate::error::Result;
use crate::report::NightReport;
use crate::stage::{Artefact, Stage, StageContext};
use crate::stages::StageName;

impl Stage for NightReport<'_> {
    const NAME: StageName = StageName::Report;
    type Output = Artefact;

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<Artefact> {
        let metrics = self.trained.metrics(ctx.night)?;
        let path = ctx.dir.join("report.html");
        durable::write(&path, self.html(&metrics)?)?;
        ctx.artefact(&path)
    }

    fn artefacts(output: &Artefact) -> Vec<&Artefact> {
        vec![output]
    }

    fn describe(output: &Artefact) -> String {
        output.path.display().to_string()
    }
}
