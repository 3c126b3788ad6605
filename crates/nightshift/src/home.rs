//! Which home a command works on.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use pipeline::config::ModelChoice;
use pipeline::{Home, NightFile};

/// The arguments that name a home.
#[derive(Args)]
pub(crate) struct HomeArgs {
    /// The configuration file, for its home.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The home; without it, the one in the file, or `nightshift` in your data folder.
    #[arg(long)]
    home: Option<PathBuf>,
}

impl HomeArgs {
    /// The home's folder, which need not exist.
    pub fn folder(self) -> anyhow::Result<PathBuf> {
        if let Some(home) = self.home {
            return Ok(home);
        }
        let of_file = match self.config {
            Some(path) => NightFile::load(path)?.choose(&ModelChoice::Default)?.home,
            None => None,
        };
        of_file.or_else(Home::default_path).context("expected --home: this user has no data folder")
    }
}
