//! Locates MLX's headers and shared libraries: an installed MLX, or wheels unpacked into OUT_DIR.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::{
    failure::{Failure, Result},
    platform::Platform,
    wheels::{self, Accelerator, Wheel, WheelCache},
};

/// An MLX to build against.
pub struct Mlx {
    pub include: PathBuf,
    /// Holds libmlx, whose own run-time path leads to the libraries it needs.
    pub lib_dir: PathBuf,
    /// The folder of the OpenBLAS that replaces the reference BLAS of MLX's Linux wheels, some thirty times as fast.
    pub openblas: Option<PathBuf>,
}

impl Mlx {
    pub fn locate(platform: Platform, cache: &WheelCache, out: &Path) -> Result<Self> {
        match env::var_os("MLX_ROOT").filter(|root| !root.is_empty()) {
            Some(root) => Self::installed(Path::new(&root)),
            None => Self::from_wheels(platform, cache, out),
        }
    }

    fn installed(root: &Path) -> Result<Self> {
        let mlx = Self { include: root.join("include"), lib_dir: root.join("lib"), openblas: None };
        let header = mlx.include.join("mlx/mlx.h");
        if header.is_file() {
            return Ok(mlx);
        }
        Err(Failure::new(
            format!("MLX_ROOT={}: {} does not exist", root.display(), header.display()),
            "point MLX_ROOT to the folder that holds MLX's `include` and `lib`, or unset it to use the prebuilt MLX",
        ))
    }

    fn from_wheels(platform: Platform, cache: &WheelCache, out: &Path) -> Result<Self> {
        platform.check_libc()?;
        let site = out.join("site");
        if site.exists() {
            fs::remove_dir_all(&site).map_err(|error| {
                Failure::new(
                    format!("cannot empty {}: {error}", site.display()),
                    "remove that folder by hand",
                )
            })?;
        }
        wheels::unpack(&cache.get(&Wheel::mlx(platform, accelerator()?)?)?, &site)?;
        let openblas = match Wheel::openblas(platform) {
            Some(wheel) => {
                wheels::unpack(&cache.get(&wheel)?, &site)?;
                Some(site.join("scipy_openblas32/lib"))
            }
            None => None,
        };
        Ok(Self { include: site.join("mlx/include"), lib_dir: site.join("mlx/lib"), openblas })
    }
}

fn accelerator() -> Result<Accelerator> {
    match env::var("NIGHTSHIFT_MLX").unwrap_or_default().as_str() {
        "" | "native" => Ok(Accelerator::Native),
        "cuda" => Ok(Accelerator::Cuda),
        other => Err(Failure::new(
            format!("NIGHTSHIFT_MLX={other}: expected `native` or `cuda`"),
            "unset it for the CPU (Linux) or Metal (Mac)",
        )),
    }
}
