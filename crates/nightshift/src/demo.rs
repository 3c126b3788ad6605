//! The demo's night.

use std::path::{Path, PathBuf};

use anyhow::bail;

/// The night's file that was given, or the demo's in the project's source folder.
///
/// # Errors
/// No file was given, and the source folder is gone.
pub(crate) fn given_or_demo(config: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(config) = config {
        return Ok(config.to_path_buf());
    }
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/demo/night.yaml");
    if !demo.is_file() {
        bail!(
            "--config: expected the file of a night, which `nightshift init` writes; the demo's was {}",
            demo.display()
        );
    }
    Ok(demo)
}
