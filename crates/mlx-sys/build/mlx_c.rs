//! mlx-c, the C interface of MLX: found in the registry's own mlx-sys package and compiled here.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    failure::{Failure, Result},
    mlx::Mlx,
};

const SHIM: &str = "shim";

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

/// Picks the package's folder out of cargo's JSON. A JSON library's features would depend on what else is being
/// built, and every new combination would compile this script, and with it mlx-c, once more.
fn package_folder(metadata: &str) -> Option<PathBuf> {
    let paths =
        metadata.split(r#""manifest_path":""#).skip(1).filter_map(|rest| rest.split('"').next());
    let mut folders = paths.filter_map(|manifest| Path::new(manifest).parent());
    folders.find(|folder| folder.ends_with("mlx-sys-0.7.0")).map(Path::to_owned)
}

/// Compiles mlx-c and the shim into one static library, which cargo links into this crate.
pub fn compile(sources: &Path, mlx: &Mlx, out: &Path) -> Result<()> {
    // One translation unit: MLX's headers, nearly all the work, are read once instead of thirty times.
    let unit = out.join("mlx_c.cpp");
    write_unit(&unit, &[sources.join("mlx/c"), PathBuf::from(SHIM)]).map_err(|error| {
        Failure::new(format!("cannot gather mlx-c's sources: {error}"), "check their permissions")
    })?;
    cc::Build::new()
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
        .file(&unit)
        .try_compile("nightshift_mlx_c")
        .map_err(|error| {
            Failure::new(
                format!("could not compile mlx-c: {error}"),
                "it needs a C++20 compiler: GCC 11, clang 14 or newer; set CXX to choose one",
            )
        })
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
    fs::write(unit, files.iter().map(|file| format!("#include {file:?}\n")).collect::<String>())
}

/// Refuses early, in one sentence, where no C++ compiler answers.
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
