//! The night's file of a command.

use std::path::{Path, PathBuf};

use anyhow::bail;
use pipeline::config::ModelChoice;

/// `night.yaml` in the working folder, if there is one.
pub(crate) fn here() -> Option<PathBuf> {
    Some(PathBuf::from("night.yaml")).filter(|file| file.is_file())
}

/// The file that was given, `night.yaml` in the working folder, or the demo's in the project's source folder; and which of
/// its models to train, which the environment does not say of the demo.
///
/// # Errors
/// No file was given, none is here, and the source folder is gone.
pub(crate) fn given_or_demo(config: Option<&Path>) -> anyhow::Result<(PathBuf, ModelChoice)> {
    if let Some(config) = config.map(Path::to_path_buf).or_else(here) {
        return Ok((config, ModelChoice::from_env()));
    }
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/demo/night.yaml");
    if !demo.is_file() {
        bail!(
            "--config: expected the file of a night, which `nightshift init` writes; the demo's was {}",
            demo.display()
        );
    }
    errln!("no --config and no night.yaml here: the demo's night, {}", demo.display());
    Ok((demo, ModelChoice::Default))
}
