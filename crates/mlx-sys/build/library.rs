//! OpenBLAS in place of the reference BLAS of MLX's Linux wheels: some thirty times the speed.

use std::{path::Path, process::Output};

use crate::failure::{Failure, Result};

/// The shared object that `shim/openblas.c` becomes.
pub const LIBRARY: &str = "nightshift_openblas";

/// Builds the forwarding library next to libmlx.
pub fn build(openblas: &Path, lib_dir: &Path) -> Result<()> {
    let compiler = cc::Build::new()
        .opt_level(2)
        .cargo_metadata(false)
        .try_get_compiler()
        .map_err(|error| failed(&error.to_string()))?;
    let output: Output = compiler
        .to_command()
        .args([
            "-shared",
            "-fPIC",
            "shim/openblas.c",
            "-lscipy_openblas",
            "-Wl,-rpath,$ORIGIN/../../scipy_openblas32/lib",
        ])
        .arg("-L")
        .arg(openblas)
        .arg("-o")
        .arg(lib_dir.join(format!("lib{LIBRARY}.so")))
        .arg(format!("-Wl,-soname,lib{LIBRARY}.so"))
        .output()
        .map_err(|error| failed(&error.to_string()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failed(&String::from_utf8_lossy(&output.stderr)))
    }
}

fn failed(reason: &str) -> Failure {
    Failure::new(
        format!("could not build the OpenBLAS forwarding library: {reason}"),
        "check that `cc` links shared objects; set CC to choose another",
    )
}
