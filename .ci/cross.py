#!/usr/bin/env python3
"""Compiles mlx-c and the shim for arm64 macOS and arm64 Linux, and links them with the pinned MLX of each: the C++ half of a
build there, checked here. zig comes as a wheel (`ziglang`); where it or an MLX cannot be had, the step is skipped.
"""

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CRATE = ROOT / "crates/mlx-sys"
ZIG = "ziglang==0.15.1"
# Of each target: the wheel's project and pip's platforms, zig's name, and what library.rs and platform.rs link with.
TARGETS = [
    ("mlx_metal", ["macosx_15_0_arm64"], "aarch64-macos.15.0", "dylib", ["-dynamiclib"]),
    (
        "mlx_cpu",
        ["manylinux_2_35_aarch64"],
        "aarch64-linux-gnu.2.35",
        "so",
        ["-shared", f"-Wl,--no-undefined,--version-script={CRATE}/shim/exports.map"],
    ),
]


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(0)


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True)


def pinned(project):
    """Version and SHA-256 of a wheel, from wheels.rs."""
    text = (CRATE / "build/wheels.rs").read_text()
    arm = r"arm64|aarch64"
    return re.search(rf'"{project}-([\d.]+)-[^"]*(?:{arm})\.whl",\s*sha256: "(\w+)"', text).groups()


def mlx_c():
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--manifest-path"]
    found = subprocess.run([*command, str(CRATE / "upstream/Cargo.toml")], stdout=subprocess.PIPE, check=True, text=True)
    manifest = re.search(r'"manifest_path":"([^"]*mlx-sys-0\.7\.0)/Cargo\.toml"', found.stdout)
    return Path(manifest[1]) / "src/mlx-c"


def build(scratch, zig, project, platforms, target, suffix, linking):
    version, sha256 = pinned(project)
    wheels = scratch / project
    wanted = wheels.with_suffix(".txt")
    wanted.write_text(f"{project}=={version} --hash=sha256:{sha256}\n")
    tags = [part for platform in platforms for part in ("--platform", platform)]
    only = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--dest", str(wheels)]
    if (done := pip("download", *tags, *only, "--requirement", str(wanted))).returncode != 0:
        skip(f"no {project}: {done.stderr.strip().splitlines()[-1]}")
    site = scratch / f"{project}-site"
    for wheel in wheels.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(site)
    sources = mlx_c()
    files = sorted([*(sources / "mlx/c").glob("*.cpp"), *(CRATE / "shim").glob("*.cpp")])
    unit = scratch / f"{project}.cpp"
    unit.write_text("".join(f'#include "{file}"\n' for file in files))
    includes = [part for folder in (CRATE / "shim", sources, site / "mlx/include") for part in ("-I", str(folder))]
    library = scratch / f"libnightshift_mlx.{suffix}"
    command = [
        *zig, "-target", target, "-std=c++20", "-O1", "-w", "-fPIC", *includes, "-include", "prelude.h", *linking,
        str(unit), "-L", str(site / "mlx/lib"), "-lmlx", "-o", str(library),
    ]
    subprocess.run(command, check=True)
    print(f"{target}: {library.name}, {library.stat().st_size} bytes, MLX {version}", flush=True)


def main():
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if (done := pip("install", "--target", str(scratch / "zig"), ZIG)).returncode != 0:
            skip(f"no {ZIG}: {done.stderr.strip().splitlines()[-1]}")
        zig = [str(scratch / "zig/ziglang/zig"), "c++"]
        for target in TARGETS:
            build(scratch, zig, *target)


if __name__ == "__main__":
    main()
