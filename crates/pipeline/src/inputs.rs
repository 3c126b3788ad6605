//! Reads all input files of a night before it starts, so that a bad file is found before training.

use eval::{Council, Policy, Suite};
use lora_train::TrainConfig;

use crate::config::{ModelSource, NightConfig};
use crate::error::{Result, io_error};
use crate::stages::convert::RawRows;
use crate::stages::enrich::EnrichmentRecipe;

/// The contents of the files that a night's configuration names.
pub(crate) struct Inputs {
    pub training: TrainConfig,
    pub suite: Suite,
    pub policy: Policy,
    pub rows: RawRows,
    pub enrichment: EnrichmentRecipe,
}

impl Inputs {
    /// Reads all files and fails on the first that is missing or invalid.
    pub fn read(config: &NightConfig) -> Result<Self> {
        let suite = config.read_suite()?;
        Ok(Self {
            training: TrainConfig::load(&config.setup.train)?,
            policy: config.read_policy(suite.council())?,
            suite,
            rows: RawRows::locate(&config.setup.data)?,
            enrichment: EnrichmentRecipe::load(config.enrich.as_deref())?,
        })
    }
}

impl NightConfig {
    /// The suite of the exam, reduced to the cases with the configured tag.
    pub(crate) fn read_suite(&self) -> Result<Suite> {
        let suite = Suite::load(&self.exam.suite)?;
        Ok(match &self.exam.tag {
            Some(tag) => suite.tagged(tag)?,
            None => suite,
        })
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
