//! Brings MLX to mlx-rs with nothing but Rust, a C++ compiler and pip on the machine.
//!
//! MLX comes prebuilt in wheels, mlx-c's sources come from the registry's mlx-sys package, and what is missing between
//! the two is in `shim/`. The registry crate builds MLX itself with CMake from a git clone, on Apple machines only.

mod bindings;
mod blas;
mod failure;
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
    let platform = Platform::of_target()?;
    let cache = WheelCache::of_user(platform)?;
    mlx_c::check_compiler()?;

    let sources = mlx_c::sources()?;
    let mlx = Mlx::locate(platform, &cache, &out)?;
    bindings::generate(&sources, platform, &cache, &out)?;
    mlx_c::compile(&sources, &mlx, &out)?;

    println!("cargo::rustc-link-search=native={}", mlx.lib_dir.display());
    if let Some(openblas) = &mlx.openblas {
        blas::build(openblas, &mlx.lib_dir)?;
        println!("cargo::rustc-cfg=nightshift_openblas");
        // Before libmlx: the loader gives libmlx's calls to the library that comes first.
        println!("cargo::rustc-link-lib=dylib={}", blas::LIBRARY);
    }
    println!("cargo::rustc-link-lib=dylib=mlx");
    println!("cargo::rustc-link-lib=dylib={}", platform.cpp_runtime());
    // For the build scripts of binaries: an rpath to this folder lets them start outside cargo too.
    println!("cargo::metadata=lib_dir={}", mlx.lib_dir.display());
    Ok(())
}
