//! Finds the sources of mlx-c, the C interface of MLX, in the registry's own mlx-sys package.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::failure::{Failure, Result};

/// The folder of mlx-c's sources. Cargo has verified the checksum of the package they are in.
pub fn sources() -> Result<PathBuf> {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--manifest-path",
            "upstream/Cargo.toml",
        ])
        .output()
        .map_err(|error| {
            Failure::new(format!("cannot run cargo: {error}"), "check your Rust installation")
        })?;
    if !output.status.success() {
        return Err(Failure::new(
            format!(
                "could not get the sources of mlx-c, which are in the registry package mlx-sys 0.7.0\n  cargo says: {}",
                String::from_utf8_lossy(&output.stderr).trim().replace('\n', "\n  ")
            ),
            "build once with access to crates.io; cargo keeps the package after that",
        ));
    }
    package_folder(&String::from_utf8_lossy(&output.stdout))
        .map(|folder| folder.join("src/mlx-c"))
        .filter(|folder| folder.join("mlx/c/mlx.h").is_file())
        .ok_or_else(|| {
            Failure::new(
                "the registry package mlx-sys 0.7.0 does not hold mlx-c's sources",
                "remove mlx-sys-0.7.0 from cargo's registry/src folder and build again",
            )
        })
}

/// Finds the package's folder in cargo's JSON, without a JSON library: its features would depend on what else is being
/// built, and every new combination would compile this script, and with it mlx-c, once more.
fn package_folder(metadata: &str) -> Option<PathBuf> {
    let paths =
        metadata.split(r#""manifest_path":""#).skip(1).filter_map(|rest| rest.split('"').next());
    let mut folders = paths.filter_map(|manifest| Path::new(manifest).parent());
    folders.find(|folder| folder.ends_with("mlx-sys-0.7.0")).map(Path::to_owned)
}
