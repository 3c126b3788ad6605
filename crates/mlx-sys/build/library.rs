//! The one shared library that Rust binaries link to: mlx-c, `shim/` and, on Linux, the calls into OpenBLAS.
//!
//! Its name, which the linker copies into every binary, is its absolute path: a binary starts outside cargo without a
//! run-time path of its own. The library's own run-time path leads to libmlx and OpenBLAS.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use crate::{
    failure::{Failure, Result},
    mlx::Mlx,
    platform::Platform,
};

/// The library's name for the linker.
pub const NAME: &str = "nightshift_mlx";

const SHIM: &str = "shim";

/// Builds the library into `out/lib` and returns that folder.
pub fn build(sources: &Path, mlx: &Mlx, platform: Platform, out: &Path) -> Result<PathBuf> {
    let folder = out.join("lib");
    // One translation unit: MLX's headers, nearly all the work, are parsed once instead of thirty times.
    let unit = out.join("mlx_c.cpp");
    write_unit(&unit, &[sources.join("mlx/c"), PathBuf::from(SHIM)])
        .and_then(|()| fs::create_dir_all(&folder))
        .map_err(|error| not_written(out, &error))?;
    let mut compiler = cc::Build::new();
    compiler
        .cpp(true)
        .std("c++20")
        // Thin wrappers: the same code serves the dev and the release profile.
        .opt_level(1)
        .debug(false)
        .warnings(false)
        .extra_warnings(false)
        .include(SHIM)
        .include(sources)
        .include(&mlx.include)
        .flag("-include")
        .flag("prelude.h")
        .file(&unit);
    if mlx.openblas.is_some() {
        compiler.define("NIGHTSHIFT_OPENBLAS", None);
    }
    let objects = compiler.try_compile_intermediates().map_err(|error| {
        Failure::new(
            format!("could not compile mlx-c: {error}"),
            "use a C++20 compiler: GCC 11, clang 14 or newer; set CXX to choose one",
        )
    })?;
    let linker = compiler.try_get_compiler().map_err(|error| not_linked(&error.to_string()))?;
    link(linker.to_command(), &objects, mlx, platform, &folder)?;
    Ok(folder)
}

fn link(
    mut command: Command,
    objects: &[PathBuf],
    mlx: &Mlx,
    platform: Platform,
    folder: &Path,
) -> Result<()> {
    let library = folder.join(platform.shared_library(NAME));
    command.args(platform.link_shared()).args(objects).arg("-lmlx");
    if mlx.openblas.is_some() {
        command.arg("-lscipy_openblas");
    }
    let mut linker_args = vec![OsStr::new(platform.library_name_flag()), library.as_os_str()];
    for needed in [Some(&mlx.lib_dir), mlx.openblas.as_ref()].into_iter().flatten() {
        linker_args.extend(["-L".as_ref(), needed.as_os_str()]);
        linker_args.extend(["-rpath".as_ref(), needed.as_os_str()]);
    }
    for arg in linker_args {
        // `-Wl,` would split a path at its commas.
        command.arg("-Xlinker").arg(arg);
    }
    let output =
        command.arg("-o").arg(&library).output().map_err(|error| not_linked(&error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(not_linked(&String::from_utf8_lossy(&output.stderr)))
}

fn not_written(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        format!("cannot write {}: {error}", path.display()),
        "check the permissions of that folder and the free space on that disk",
    )
}

fn not_linked(reason: &str) -> Failure {
    Failure::new(
        format!("could not link the shared library of mlx-c: {reason}"),
        "check that the C++ compiler links shared libraries; set CXX to choose another",
    )
}

/// Makes cargo run the build script again after the target folder has moved: the library's name holds the old path.
pub fn rerun_when_moved(out: &Path) -> Result<()> {
    let marker = out.join("built_here");
    // Older than any build, because cargo also reruns the script for a file that is newer than its last run.
    fs::File::create(&marker)
        .and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH))
        .map_err(|error| not_written(&marker, &error))?;
    // After a move cargo puts the new OUT_DIR into the lines that this script has printed, and would find the file.
    // It does not recognize OUT_DIR with a `.` in it: the old path stays, and a missing file reruns the script.
    if let (Some(parent), Some(name)) = (out.parent(), out.file_name()) {
        let path = parent.join(".").join(name).join("built_here");
        println!("cargo::rerun-if-changed={}", path.display());
    }
    Ok(())
}

/// Writes a source file that includes every `.cpp` file of `folders`.
fn write_unit(unit: &Path, folders: &[PathBuf]) -> io::Result<()> {
    let mut files = Vec::new();
    for folder in folders {
        for entry in fs::read_dir(folder)? {
            files.push(entry?.path().canonicalize()?);
        }
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "cpp"));
    files.sort();
    let lines = files.iter().map(|file| format!("#include \"{}\"\n", file.display()));
    fs::write(unit, lines.collect::<String>())
}

/// Fails early, with a message of its own, where there is no C++ compiler.
pub fn check_compiler() -> Result<()> {
    let build = cc::Build::new().cpp(true).cargo_metadata(false).try_get_compiler();
    let answers = build
        .as_ref()
        .is_ok_and(|compiler| compiler.to_command().arg("--version").output().is_ok());
    if answers {
        return Ok(());
    }
    let tried = build
        .map_or_else(|error| error.to_string(), |compiler| compiler.path().display().to_string());
    Err(Failure::new(
        format!("no C++ compiler found (tried: {tried})"),
        "install one (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++; macOS: xcode-select --install)",
    ))
}
