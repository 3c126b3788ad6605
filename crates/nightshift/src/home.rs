//! Which home a command works on.

use std::path::{Path, PathBuf};

use anyhow::Context;
use pipeline::config::ModelChoice;
use pipeline::{Home, NightFile};

/// The folder of the home: the given one, or that of a night's file, or the user's default.
pub(crate) fn chosen(home: Option<PathBuf>, config: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(home) = home {
        return Ok(home);
    }
    let of_file = match config {
        Some(path) => NightFile::load(path)?.choose(&ModelChoice::Default)?.home,
        None => None,
    };
    of_file.or_else(Home::default_path).context("expected --home: this user has no data folder")
}
