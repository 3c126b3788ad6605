//! Which home a command works on.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use pipeline::config::ModelChoice;
use pipeline::{Home, NightConfig, NightFile};

/// The arguments that name a home.
#[derive(Args)]
pub(crate) struct HomeArgs {
    /// A night's file: its home and, for commands that change something, its model (SANCTUM_TRAIN_MODEL chooses another).
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// The home; without it, that of --config, or `nightshift` in your data folder.
    #[arg(long, global = true)]
    home: Option<PathBuf>,
}

impl HomeArgs {
    /// The configuration of --config, if it is given.
    pub fn config(&self) -> anyhow::Result<Option<NightConfig>> {
        let Some(path) = &self.config else { return Ok(None) };
        Ok(Some(NightFile::load(path)?.choose(&ModelChoice::from_env())?))
    }

    /// The home's folder, which need not exist.
    pub fn folder(&self) -> anyhow::Result<PathBuf> {
        let named = match &self.home {
            Some(home) => Some(home.clone()),
            None => self.config()?.and_then(|config| config.home),
        };
        named.or_else(Home::default_path).context("expected --home: this user has no data folder")
    }
}
