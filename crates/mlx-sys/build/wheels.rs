//! Pinned PyPI wheels: downloaded once per user, checked by hash, unpacked as `site-packages` would be.

use std::{
    env, fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use sha2::{Digest, Sha256};

use crate::{
    failure::{Failure, Result},
    platform::Platform,
};

/// One file on PyPI.
#[derive(Clone, Copy, Debug)]
pub struct Wheel {
    pub file: &'static str,
    pub sha256: &'static str,
}

/// The libraries that MLX's CUDA build needs beside the driver, for x86-64: what pip resolves for its wheel. libmlx's
/// run-time path leads to them where they are unpacked beside it, as in `site-packages`.
const CUDA_RUNTIME: [Wheel; 9] = [
    Wheel {
        file: "nvidia_cublas-13.10.0.20-py3-none-manylinux1_x86_64.manylinux_2_5_x86_64.whl",
        sha256: "dcc6d63884c53d07e267ce7e6feac17b2538cebaafec5db865736c3e28e4dc84",
    },
    Wheel {
        file: "nvidia_cuda_nvrtc-13.5.37-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
        sha256: "86b4d68058807988b7d9af5b44917a0601e9c337f35ccd657bfb3c759ff8d8bc",
    },
    Wheel {
        file: "nvidia_cuda_runtime-13.5.37-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        sha256: "df2b79a8852f10d1fef8c848489c49eebb5754051bf870202a862831412b179d",
    },
    Wheel {
        file: "nvidia_cudnn_cu13-9.28.1.4-py3-none-manylinux_2_27_x86_64.whl",
        sha256: "a54f205b1db1f2895d99f398754db1369816f0569dd459731f925635cf7b65ec",
    },
    Wheel {
        file: "nvidia_cufft-12.5.0.14-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        sha256: "b8be26837a5abad2b5b74f3e92dd29f622a42934b355be0961a48712cbba23ad",
    },
    Wheel {
        file: "nvidia_cusolver-12.4.1.2-py3-none-manylinux_2_27_x86_64.whl",
        sha256: "b3b8e02fd2f2df869369af075dc3a179d43f6f7b85e94632a7dce556697be044",
    },
    Wheel {
        file: "nvidia_cusparse-12.9.4.2-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        sha256: "072667e58c851a318738f5527a12eb225cbf058803f2ea451c722d8cf8edddec",
    },
    Wheel {
        file: "nvidia_nccl_cu13-2.32.3-py3-none-manylinux_2_27_x86_64.whl",
        sha256: "1459723080ac889d73a26edfa3e04383a7928ab31ac8f0ec43b3ea9548b04ff3",
    },
    Wheel {
        file: "nvidia_nvjitlink-13.5.37-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
        sha256: "280d7cb9649704145f074b8dbde500de04ce02d0872e066e20a83c17bcaa93eb",
    },
];

/// What MLX computes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The CPU on Linux, Metal on a Mac.
    Native,
    /// CUDA 13.
    Cuda,
}

impl Wheel {
    /// MLX itself: headers and shared objects.
    pub fn mlx(platform: Platform, accelerator: Accelerator) -> Result<Self> {
        Ok(match (platform, accelerator) {
            (Platform::LinuxX86, Accelerator::Native) => Self {
                file: "mlx_cpu-0.32.4-py3-none-manylinux_2_35_x86_64.whl",
                sha256: "0e0a24fa2ce8b6b94d2e6a90604e8813aa8e29fcb918bb2aa01cfb6d133d8cee",
            },
            (Platform::LinuxArm, Accelerator::Native) => Self {
                file: "mlx_cpu-0.32.4-py3-none-manylinux_2_35_aarch64.whl",
                sha256: "1289e85e64af1fd16380bf331438bfe4afe875d27afc3e0bcf35f427c488fadd",
            },
            (Platform::MacArm, Accelerator::Native) => Self {
                file: "mlx_metal-0.32.4-py3-none-macosx_15_0_arm64.whl",
                sha256: "9f0a3cc26d89724434d9684932fc6f3e4e83669d2a895d858ed2c8a55eb84e8b",
            },
            (Platform::LinuxX86, Accelerator::Cuda) => Self {
                file: "mlx_cuda_13-0.32.4-py3-none-manylinux_2_35_x86_64.whl",
                sha256: "94cb48fba73e5ee39467e51c35c51c691123359ca17bafd1a24cf92ad6732bee",
            },
            (platform, Accelerator::Cuda) => {
                return Err(Failure::new(
                    format!("NIGHTSHIFT_MLX=cuda: no CUDA build of MLX is pinned for {platform:?}"),
                    "unset NIGHTSHIFT_MLX, or set MLX_ROOT to an installed MLX",
                ));
            }
        })
    }

    /// The wheels with the libraries that MLX itself needs.
    pub fn runtime(accelerator: Accelerator) -> &'static [Self] {
        match accelerator {
            Accelerator::Native => &[],
            Accelerator::Cuda => &CUDA_RUNTIME,
        }
    }

    /// OpenBLAS for the platforms whose MLX comes with the reference BLAS.
    pub fn openblas(platform: Platform) -> Option<Self> {
        match platform {
            Platform::LinuxX86 => Some(Self {
                file: "scipy_openblas32-0.3.34.481.3-py3-none-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
                sha256: "0595f94cd58c1f8a0d90c975621f4587337a003916b1979e834ebdf2cb5d9504",
            }),
            Platform::LinuxArm => Some(Self {
                file: "scipy_openblas32-0.3.34.481.3-py3-none-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
                sha256: "e085dddbc5b9aa130f83def515d31c440e69f387a90c7e63b154a5575b4466bc",
            }),
            Platform::MacArm => None,
        }
    }

    /// libclang, for bindgen.
    pub fn libclang(platform: Platform) -> Self {
        match platform {
            Platform::LinuxX86 => Self {
                file: "libclang-18.1.1-py2.py3-none-manylinux2010_x86_64.whl",
                sha256: "c533091d8a3bbf7460a00cb6c1a71da93bffe148f172c7d03b1c31fbf8aa2a0b",
            },
            Platform::LinuxArm => Self {
                file: "libclang-18.1.1-py2.py3-none-manylinux2014_aarch64.whl",
                sha256: "54dda940a4a0491a9d1532bf071ea3ef26e6dbaf03b5000ed94dd7174e8f9592",
            },
            Platform::MacArm => Self {
                file: "libclang-18.1.1-1-py2.py3-none-macosx_11_0_arm64.whl",
                sha256: "0b2e143f0fac830156feb56f9231ff8338c20aecfe72b4ffe96f19e5a1dbb69a",
            },
        }
    }

    /// pip's requirement `project==version`. A wheel is named `project-version[-build]-python-abi-platform.whl`.
    pub fn requirement(&self) -> String {
        let mut parts = self.file.split('-');
        format!("{}=={}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
    }

    /// The platform tag to ask pip for: that of the build's target, not of the Python that runs pip.
    pub fn platform_tag(&self) -> &'static str {
        let stem = self.file.trim_end_matches(".whl");
        stem.rsplit(['-', '.']).next().unwrap_or(stem)
    }

    fn matches(&self, path: &Path) -> Result<bool> {
        Ok(sha256(path)? == self.sha256)
    }
}

/// The user's folder of verified wheels, shared by all builds and profiles.
pub struct WheelCache {
    folder: PathBuf,
}

impl WheelCache {
    /// `$NIGHTSHIFT_CACHE/wheels`, or `nightshift/wheels` in the user's cache folder.
    pub fn of_user(platform: Platform) -> Result<Self> {
        let set =
            |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let in_home = if platform.is_linux() { ".cache" } else { "Library/Caches" };
        let xdg = || platform.is_linux().then(|| set("XDG_CACHE_HOME")).flatten();
        let folder = set("NIGHTSHIFT_CACHE")
            .or_else(|| {
                xdg()
                    .or_else(|| set("HOME").map(|home| home.join(in_home)))
                    .map(|cache| cache.join("nightshift"))
            })
            .ok_or_else(|| {
                Failure::new(
                    "there is no cache folder: HOME is not set",
                    "set NIGHTSHIFT_CACHE to a folder",
                )
            })?;
        Ok(Self::at(folder.join("wheels")))
    }

    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The path of a verified copy of `wheel`; downloads it when the cache has none.
    pub fn get(&self, wheel: &Wheel) -> Result<PathBuf> {
        let kept = self.folder.join(wheel.file);
        // A damaged copy is downloaded again.
        if !(kept.is_file() && wheel.matches(&kept)?) {
            self.download(wheel, &kept)?;
        }
        Ok(kept)
    }

    fn download(&self, wheel: &Wheel, kept: &Path) -> Result<()> {
        // Downloaded into a folder of this process and then renamed, so that parallel builds never see a partial file.
        let partial = self.folder.join(format!("partial-{}", std::process::id()));
        fs::create_dir_all(&partial).map_err(|error| {
            Failure::new(
                format!("cannot create {}: {error}", partial.display()),
                "set NIGHTSHIFT_CACHE to a writable folder",
            )
        })?;
        let done = pip_download(wheel, &partial, &self.folder).and_then(|()| {
            let fetched = partial.join(wheel.file);
            if wheel.matches(&fetched)? {
                return fs::rename(&fetched, kept).map_err(|error| unusable(kept, &error));
            }
            Err(Failure::new(
                format!(
                    "{} was downloaded with the wrong content\n  expected sha256 {}\n  found    sha256 {}",
                    wheel.file,
                    wheel.sha256,
                    sha256(&fetched)?
                ),
                "the package index or a proxy served another file; set PIP_INDEX_URL to an index you trust and build again",
            ))
        });
        // A leftover folder only costs disk space.
        let _ = fs::remove_dir_all(&partial);
        done
    }
}

fn pip_download(wheel: &Wheel, into: &Path, cache: &Path) -> Result<()> {
    let output =
        python(&["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"])
            .args(["--no-cache-dir", "--retries", "2", "--no-deps", "--only-binary", ":all:"])
            .args(["--platform", wheel.platform_tag(), "--dest"])
            .arg(into)
            .arg(wheel.requirement())
            .output()
            .map_err(|_| no_python())?;
    if output.status.success() && into.join(wheel.file).is_file() {
        return Ok(());
    }
    let reason = reason_in(&output);
    if reason.contains("No module named pip") {
        return Err(Failure::new(
            "python3 has no pip, which fetches the prebuilt MLX",
            "run `python3 -m ensurepip --user`, or install your system's package `python3-pip`",
        ));
    }
    Err(Failure::new(
        format!("could not download {}\n  pip says: {reason}", wheel.file),
        format!(
            "check the network (pip's own settings count: PIP_INDEX_URL, PIP_PROXY, PIP_CERT), or put the file with \
             sha256 {} into {}",
            wheel.sha256,
            cache.display()
        ),
    ))
}

/// Unpacks a verified wheel into `site`.
pub fn unpack(wheel: &Path, site: &Path) -> Result<()> {
    let output =
        python(&["-m", "zipfile", "-e"]).arg(wheel).arg(site).output().map_err(|_| no_python())?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::new(
        format!(
            "could not unpack {} into {}\n  python3 says: {}",
            wheel.display(),
            site.display(),
            reason_in(&output)
        ),
        "check the free space on that disk",
    ))
}

fn python(args: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.args(args);
    command
}

fn no_python() -> Failure {
    Failure::new(
        "`python3` is not on the PATH; its pip fetches the prebuilt MLX",
        "install Python 3 with pip (Debian, Ubuntu: apt install python3-pip; macOS: xcode-select --install)",
    )
}

/// The reason in a failed command's stderr: its last line, or the broken connection among pip's retries.
fn reason_in(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let broken = text.lines().find_map(|line| line.split_once("connection broken by "));
    let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    broken
        .map(|(_, reason)| format!("the connection is broken: {reason}"))
        .or_else(|| last.map(str::to_owned))
        .unwrap_or_else(|| output.status.to_string())
}

fn sha256(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut file = fs::File::open(path).map_err(|error| unusable(path, &error))?;
    let mut chunk = vec![0; 1 << 20];
    loop {
        match file.read(&mut chunk).map_err(|error| unusable(path, &error))? {
            0 => break,
            read => hasher.update(&chunk[..read]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        format!("cannot use {}: {error}", path.display()),
        "set NIGHTSHIFT_CACHE to a folder you own",
    )
}
