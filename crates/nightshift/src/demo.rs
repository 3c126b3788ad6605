//! The demo's night.

use std::path::{Path, PathBuf};

/// The configuration of the demo's night, in the project's source folder.
pub(crate) fn demo_night() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/demo/night.yaml")
}
