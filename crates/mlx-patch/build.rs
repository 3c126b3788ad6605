//! The check. In a build script, which cargo compiles before the library and before what needs the library.

#[cfg(all(feature = "required", not(feature = "patched")))]
compile_error!(
    r#"MLX needs a patched mlx-sys. Add this to the Cargo.toml at the root of your workspace:

[patch.crates-io]
mlx-sys = { git = "https://github.com/nightshift-rs/nightshift" }

mlx-sys and the nightshift crates must come from the same place: if you give those a `rev`, `tag`, `branch` or `path`,
give mlx-sys the same.
"#
);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
