//! Which home a command works on.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use pipeline::config::ModelChoice;
use pipeline::{Home, NightConfig, NightFile};

use crate::night_file;

/// The arguments that name a home.
#[derive(Args)]
pub(crate) struct HomeArgs {
    /// A night's file: its home and, for commands that change something, its model (SANCTUM_TRAIN_MODEL chooses another).
    /// Without it and --home, `night.yaml` in the working folder, if there is one.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// The home; without it, that of the night's file, or `nightshift` in your data folder.
    #[arg(long, global = true)]
    home: Option<PathBuf>,
}

/// The home's folder if no argument names one.
///
/// # Errors
/// A night's file that cannot be read, or no data folder.
pub(crate) fn home_here() -> anyhow::Result<PathBuf> {
    HomeArgs { config: None, home: None }.folder()
}

impl HomeArgs {
    /// The configuration of the night's file, if there is one.
    pub fn config(&self) -> anyhow::Result<Option<NightConfig>> {
        let here = || if self.home.is_none() { night_file::here() } else { None };
        let Some(path) = self.config.clone().or_else(here) else { return Ok(None) };
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
