//! Reads all input files of a night before it starts, so that a bad file is found before training.

use eval::{Council, Policy, Suite, general};

use crate::config::{DataSource, Enrichment, ModelSource, NightConfig};
use crate::data_plan::{Treatment, given_splits};
use crate::drift::DriftPlan;
use crate::error::{Error, Result, io_error};
use crate::preference::Recipes;
use crate::raw_rows::RawRows;
use crate::replay::ReplayPlan;
use crate::stages::enrich::EnrichmentRecipe;
use crate::stages::fresh_exam::FreshSource;

/// The contents of the files that a night's configuration names.
pub(crate) struct Inputs {
    pub recipes: Recipes,
    pub suite: Suite,
    pub policy: Policy,
    pub fresh: FreshSource,
    pub rows: RawRows,
    pub enrichment: EnrichmentRecipe,
    pub treatment: Treatment,
    pub replay: Option<ReplayPlan>,
    /// All everyday questions, if the exam has some of them: none may be trained.
    pub everyday: Option<Suite>,
    pub drift: Option<DriftPlan>,
}

/// The rows of a night and what is done to them.
pub(crate) struct RowInputs {
    pub rows: RawRows,
    pub treatment: Treatment,
}

impl RowInputs {
    /// Decides what is done to the rows, and finds them.
    pub fn read(config: &NightConfig) -> Result<Self> {
        config.check_facts()?;
        let given = given_splits(config)?;
        let treatment = Treatment::of(config, given.as_ref())?;
        let rows = RawRows::locate(config, given.as_ref(), treatment.as_they_are)?;
        Ok(Self { rows, treatment })
    }
}

impl Inputs {
    /// Reads all files and fails on the first that is missing or invalid.
    pub fn read(config: &NightConfig) -> Result<Self> {
        let suite = config.read_suite()?;
        let RowInputs { rows, treatment } = RowInputs::read(config)?;
        let everyday =
            config.everyday_questions().map(|_| general::suite(suite.council(), usize::MAX));
        let drift = DriftPlan::load(config.forgetting.as_ref())?;
        let measured = drift.as_ref().map_or(&[][..], DriftPlan::prompts);
        Ok(Self {
            recipes: Recipes::load(config)?,
            policy: config.read_policy(suite.council())?,
            fresh: FreshSource::read(config, &suite)?,
            suite,
            rows,
            enrichment: EnrichmentRecipe::load(config)?,
            treatment,
            replay: ReplayPlan::load(config.replay.as_ref(), measured)?,
            everyday: everyday.transpose()?,
            drift,
        })
    }
}

impl NightConfig {
    /// The suite of the exam, reduced to the cases with the configured tag, and the everyday questions.
    pub(crate) fn read_suite(&self) -> Result<Suite> {
        let suite = Suite::load(&self.exam.suite)?;
        let suite = match &self.exam.tag {
            Some(tag) => suite.tagged(tag)?,
            None => suite,
        };
        match self.everyday_questions() {
            Some(count) => {
                let questions = general::suite(suite.council(), count)?;
                Ok(suite.joined(questions)?)
            }
            None => Ok(suite),
        }
    }

    /// The number of everyday questions in the exam, if there are any.
    fn everyday_questions(&self) -> Option<usize> {
        self.forgetting.as_ref().map(|it| it.questions).filter(|questions| *questions > 0)
    }

    /// Refuses facts that are named twice: as the source of raw rows, and as those of generated rows.
    fn check_facts(&self) -> Result<()> {
        match (&self.setup.data, &self.household.facts) {
            (DataSource::Household { facts: source, .. }, Some(facts)) => Err(Error::Config {
                path: facts.clone(),
                reason: format!(
                    "household.facts: expected none, because `data.household` makes all rows from {}",
                    source.display()
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Whether rows that are the beginning of longer ones are merged into them. Rows that are used as they are, rows of
    /// the seed's recipe and generated rows never are.
    pub(crate) fn merges(&self, rows: &RawRows, treatment: &Treatment) -> bool {
        let exact = treatment.as_they_are || self.enrich == Some(Enrichment::Seed);
        self.merge_logs && !exact && !rows.are_generated()
    }

    /// The rules of the gate; without a file, the defaults for the suite's council.
    pub(crate) fn read_policy(&self, council: &Council) -> Result<Policy> {
        Ok(match &self.gate {
            Some(path) => Policy::load_for(path, council)?,
            None => Policy::of_council(council),
        })
    }

    /// Reads every file that the night reads before it trains. Of the model only the existence is
    /// checked.
    ///
    /// # Errors
    /// The first file that is missing or invalid.
    pub fn check(&self) -> Result<()> {
        Inputs::read(self)?;
        if let ModelSource::Path(path) = &self.setup.model {
            std::fs::metadata(path).map_err(io_error(path, "find the model"))?;
        }
        Ok(())
    }
}
