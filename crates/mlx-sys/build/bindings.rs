//! Rust declarations for mlx-c's headers.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::{
    failure::{Failure, Result},
    platform::Platform,
    wheels::{self, Wheel, WheelCache},
};

/// Writes `bindings.rs` into OUT_DIR.
pub fn generate(sources: &Path, platform: Platform, cache: &WheelCache, out: &Path) -> Result<()> {
    let unpacked = provide_libclang(platform, cache, out)?;
    let bindings = bindgen::Builder::default()
        .rust_target(rust_version()?)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .header(sources.join("mlx/c/mlx.h").to_string_lossy())
        .header("shim/extra.h")
        .header("shim/cpu_op.h")
        .clang_arg(format!("-I{}", sources.display()))
        .clang_args(compiler_headers())
        .allowlist_item("_?mlx_.*|MLX_.*")
        .formatter(bindgen::Formatter::None)
        .generate()
        .map_err(|error| failed(&error.to_string()))?;
    bindings.write_to_file(out.join("bindings.rs")).map_err(|error| failed(&error.to_string()))?;
    if let Some(folder) = unpacked {
        // 60 MB that only this step needs; the wheel stays in the cache.
        let _ = fs::remove_dir_all(folder);
    }
    Ok(())
}

/// The first Rust with the 2024 edition. Fixed, so that the declarations do not depend on the installed compiler.
fn rust_version() -> Result<bindgen::RustTarget> {
    bindgen::RustTarget::stable(85, 0).map_err(|error| failed(&error.to_string()))
}

/// Unpacks libclang from its wheel when the machine has none; returns the folder, which is removed afterwards.
fn provide_libclang(platform: Platform, cache: &WheelCache, out: &Path) -> Result<Option<PathBuf>> {
    if clang_sys::load().is_ok() {
        return Ok(None);
    }
    let folder = out.join("libclang");
    wheels::unpack(&cache.get(&Wheel::libclang(platform))?, &folder)?;
    let native = folder.join("libclang-18.1.1.data/platlib/clang/native");
    // SAFETY: the build script has one thread.
    unsafe { env::set_var("LIBCLANG_PATH", &native) };
    clang_sys::load().map_err(|error| failed(&error))?;
    Ok(Some(folder))
}

/// The wheel's libclang lacks the compiler's own headers (`stddef.h`); those of the C++ compiler serve.
fn compiler_headers() -> Vec<String> {
    let folder = cc::Build::new()
        .cargo_metadata(false)
        .try_get_compiler()
        .ok()
        .and_then(|compiler| compiler.to_command().arg("-print-file-name=include").output().ok())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .filter(|folder| Path::new(folder).is_dir());
    folder.map(|folder| vec!["-idirafter".to_owned(), folder]).unwrap_or_default()
}

fn failed(reason: &str) -> Failure {
    Failure::new(
        format!("could not read mlx-c's headers with libclang: {reason}"),
        "set LIBCLANG_PATH to the folder of a libclang 14 or newer",
    )
}
