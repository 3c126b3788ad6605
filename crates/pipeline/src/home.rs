use std::fs;
use std::path::{Path, PathBuf};

use crate::config::NightConfig;
use crate::error::{Error, Result, io_error};

/// The folder that everything of one installation lives in, readable by its owner alone.
///
/// ```text
/// home/
///   night.lock          held while a night runs
///   registry.json       who serves: champion, candidate, previous, history
///   registry.last.json  the same before the last change
///   audit.jsonl         one line per call to the registry
///   memory.json         the memory limit, once training has run out of memory here
///   preflight.json      what the last preflight found
///   index.html          all nights on one page
///   metrics.txt         the last night as OpenMetrics
///   adapters/<sha256>/  content-addressed, loadable by mlx-lm as they are
///   nights/0001-2026-04-08/
///     journal.jsonl     what began and what finished
///     convert/ enrich/ train/ exam/ gate/ promote/ report/
/// ```
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Opens the home at `root`, making it if missing.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        private_dir(&root)?;
        // Absolute, so that the paths in records and messages mean the same from everywhere.
        let root = root.canonicalize().map_err(io_error(&root, "open"))?;
        let home = Self { root };
        private_dir(&home.adapters())?;
        private_dir(&home.nights())?;
        Ok(home)
    }

    /// The home of a configuration, or else the user's own.
    pub(crate) fn of(config: &NightConfig) -> Result<Self> {
        let missing = || Error::Config {
            path: "night".into(),
            reason: "home: expected a folder, found none: this user has no data folder".into(),
        };
        Self::open(config.home.clone().or_else(Home::default_path).ok_or_else(missing)?)
    }

    /// Where a home lies when nobody says: `nightshift` in the user's data folder.
    pub fn default_path() -> Option<PathBuf> {
        dirs::data_dir().map(|data| data.join("nightshift"))
    }

    /// The home's folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The page about all its nights.
    pub fn index(&self) -> PathBuf {
        self.root.join("index.html")
    }

    /// Held while a night runs.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.root.join("night.lock")
    }

    pub(crate) fn adapters(&self) -> PathBuf {
        self.root.join("adapters")
    }

    pub(crate) fn nights(&self) -> PathBuf {
        self.root.join("nights")
    }
}

/// Makes a folder, and those above it, that only the owner may enter.
pub(crate) fn private_dir(path: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(io_error(path, "make the folder"))
}

/// Takes all access from group and others below `dir`, for files that other libraries wrote.
pub(crate) fn make_private(dir: &Path) -> Result<()> {
    for item in fs::read_dir(dir).map_err(io_error(dir, "list"))? {
        let item = item.map_err(io_error(dir, "list"))?;
        let path = item.path();
        let kind = item.file_type().map_err(io_error(&path, "read"))?;
        if kind.is_dir() {
            set_mode(&path, 0o700)?;
            make_private(&path)?;
        } else if kind.is_file() {
            set_mode(&path, 0o600)?;
        }
    }
    Ok(())
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(io_error(path, "make private"))
}

#[cfg(not(unix))]
fn set_mode(_: &Path, _: u32) -> Result<()> {
    Ok(())
}
