//! Locates MLX's headers and shared libraries: an installed MLX, or wheels unpacked into OUT_DIR.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
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
        let accelerator = accelerator()?;
        wheels::unpack(&cache.get(&Wheel::mlx(platform, accelerator)?)?, &site)?;
        for wheel in Wheel::runtime(accelerator) {
            wheels::unpack(&cache.get(wheel)?, &site)?;
        }
        if accelerator == Accelerator::Cuda && !has_cuda_driver() {
            println!(
                "cargo::warning=NIGHTSHIFT_MLX=cuda: this machine has no NVIDIA driver (libcuda.so.1). What is built here \
                 starts only where there is one for CUDA 13 (release 580 or newer); elsewhere the loader stops it with \
                 `libcuda.so.1: cannot open shared object file`."
            );
        }
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

/// Whether the loader knows the driver's library.
fn has_cuda_driver() -> bool {
    let listed = |program: &str| Command::new(program).arg("-p").output();
    // Not on the PATH of every user.
    let output = listed("ldconfig").or_else(|_| listed("/sbin/ldconfig"));
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("libcuda.so.1"))
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
