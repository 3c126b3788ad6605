//! Builds mlx-rs' native part with nothing but Rust, a C++ compiler and pip on the machine.
//!
//! MLX comes prebuilt in wheels, mlx-c's sources come from the registry's mlx-sys package, and `shim/` closes the gaps
//! between their versions. The registry crate builds MLX itself with CMake from a git clone, on Apple machines only.

mod bindings;
mod failure;
mod library;
mod mlx;
mod mlx_c;
mod platform;
mod wheels;

use std::{env, path::PathBuf};

use crate::{failure::Result, mlx::Mlx, platform::Platform, wheels::WheelCache};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(nightshift_openblas)");
    for path in ["build", "shim", "upstream"] {
        println!("cargo::rerun-if-changed={path}");
    }
    for name in ["MLX_ROOT", "NIGHTSHIFT_MLX", "LIBCLANG_PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    if let Err(failure) = build() {
        failure.report();
    }
}

fn build() -> Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    library::rerun_when_moved(&out)?;
    let platform = Platform::of_target()?;
    let cache = WheelCache::of_user(platform)?;
    library::check_compiler()?;

    let sources = mlx_c::sources()?;
    let mlx = Mlx::locate(platform, &cache, &out)?;
    bindings::generate(&sources, platform, &cache, &out)?;
    let folder = library::build(&sources, &mlx, platform, &out)?;

    if mlx.openblas.is_some() {
        println!("cargo::rustc-cfg=nightshift_openblas");
    }
    println!("cargo::rustc-link-search=native={}", folder.display());
    println!("cargo::rustc-link-lib=dylib={}", library::NAME);
    Ok(())
}
