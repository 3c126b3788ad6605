//! The machines MLX is published for, and everything that differs between Linux and Apple.

use std::{env, process::Command};

use crate::failure::{Failure, Result};

/// A target this crate can build for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    LinuxX86,
    LinuxArm,
    MacArm,
}

impl Platform {
    /// The target cargo builds for.
    pub fn of_target() -> Result<Self> {
        let os = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
        let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
        match (os.as_str(), arch.as_str()) {
            ("linux", "x86_64") => Ok(Self::LinuxX86),
            ("linux", "aarch64") => Ok(Self::LinuxArm),
            ("macos", "aarch64") => Ok(Self::MacArm),
            _ => Err(Failure::new(
                format!("there is no MLX for {os} on {arch}"),
                "build on Linux (x86-64, arm64) or on a Mac with Apple silicon",
            )),
        }
    }

    pub fn is_linux(self) -> bool {
        self != Self::MacArm
    }

    /// The file name of a shared library.
    pub fn shared_library(self, name: &str) -> String {
        format!("lib{name}.{}", if self.is_linux() { "so" } else { "dylib" })
    }

    /// Arguments of the C++ compiler for linking a shared library.
    pub fn link_shared(self) -> &'static [&'static str] {
        if self.is_linux() {
            // The older tags make the run-time path win over LD_LIBRARY_PATH, which may lead to another MLX.
            &["-shared", "-Wl,--no-undefined,--disable-new-dtags,--version-script=shim/exports.map"]
        } else {
            &["-dynamiclib"]
        }
    }

    /// The linker's option for the name under which binaries look for a shared library.
    pub fn library_name_flag(self) -> &'static str {
        if self.is_linux() { "-soname" } else { "-install_name" }
    }

    /// Checks for glibc 2.35, which the Linux wheels of MLX need. An older one fails at link time, symbol by symbol.
    pub fn check_libc(self) -> Result<()> {
        let Some((major, minor)) = self.is_linux().then(glibc_version).flatten() else {
            return Ok(());
        };
        if (major, minor) >= (2, 35) {
            return Ok(());
        }
        Err(Failure::new(
            format!("MLX needs glibc 2.35 or newer, this machine has {major}.{minor}"),
            "use Ubuntu 22.04, Debian 12, Fedora 36 or newer, or set MLX_ROOT to an MLX built on this machine",
        ))
    }
}

fn glibc_version() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
