//! Everything that a night reads before it does anything: a bad file is found before an hour of
//! training.

use eval::{Council, Policy, Suite};
use lora_train::TrainConfig;

use crate::config::{ModelSource, NightConfig};
use crate::error::{Result, io_error};
use crate::stages::convert::RawRows;
use crate::stages::enrich::Recipe;

/// The files that a night's configuration names, read and checked.
pub(crate) struct Inputs {
    pub training: TrainConfig,
    pub suite: Suite,
    pub policy: Policy,
    pub rows: RawRows,
    pub enrichment: Recipe,
}

impl Inputs {
    /// Reads them all; the first that is missing or wrong is the error.
    pub fn read(config: &NightConfig) -> Result<Self> {
        let suite = config.read_suite()?;
        Ok(Self {
            training: TrainConfig::load(&config.setup.train)?,
            policy: config.read_policy(suite.council())?,
            suite,
            rows: RawRows::locate(&config.setup.data)?,
            enrichment: Recipe::load(config.enrich.as_deref())?,
        })
    }
}

impl NightConfig {
    /// The exam: the suite, or what of it is tagged for the night.
    pub(crate) fn read_suite(&self) -> Result<Suite> {
        let suite = Suite::load(&self.exam.suite)?;
        Ok(match &self.exam.tag {
            Some(tag) => suite.tagged(tag)?,
            None => suite,
        })
    }

    /// The gate's policy; without a file, the default one for the suite's council.
    pub(crate) fn read_policy(&self, council: &Council) -> Result<Policy> {
        Ok(match &self.gate {
            Some(path) => Policy::load_for(path, council)?,
            None => Policy::of_council(council),
        })
    }

    /// Reads every file that the night reads before it trains, except the model's weights: that
    /// they are there is all that is asked.
    pub fn check(&self) -> Result<()> {
        Inputs::read(self)?;
        if let ModelSource::Path(path) = &self.setup.model {
            std::fs::metadata(path).map_err(io_error(path, "find the model"))?;
        }
        Ok(())
    }
}
