#!/usr/bin/env python3
"""Packs the program for other machines, and on Linux starts it in a root that has nothing but a C and a C++ library.

    .ci/archive.py PROGRAM NAME     writes NAME.tar.gz and NAME.tar.gz.sha256
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What a machine must have: glibc with its loader, and the C++ runtime.
SYSTEM = re.compile(r"/(ld-linux[\w-]*|lib(c|m|dl|rt|pthread|resolv|stdc\+\+|gcc_s))\.so[.\d]*$")


def libraries(folder):
    """The system libraries that the loader resolves for the files in a folder; fails on one that is not expected."""
    found = set()
    for path in [folder / "bin/nightshift", *folder.rglob("*.so*")]:
        listed = subprocess.run(["ldd", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
        if "not found" in listed:
            sys.exit(f"archive: {path.relative_to(folder)}: the loader does not find a library:\n{listed}")
        for line in listed.splitlines():
            if library := re.search(r"(/\S+) \(0x", line):
                path_of = Path(library[1])
                if path_of.resolve().is_relative_to(folder):
                    continue
                if not SYSTEM.search(library[1]):
                    sys.exit(f"archive: {path.relative_to(folder)} needs {library[1]}, which other machines may not have")
                found.add(path_of)
    return found


def starts_alone(folder):
    """Starts the program in an empty root with the system's libraries, as another user would find it."""
    with tempfile.TemporaryDirectory(prefix="nightshift-root-") as root:
        root = Path(root)
        for library in libraries(folder):
            target = root / library.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library.resolve(), target)
        shutil.copytree(folder, root / "opt/nightshift", symlinks=True)
        for name in ("tmp", "dev", "proc"):
            (root / name).mkdir()
        for call in (["--version"], ["init", "/tmp/house"], ["config", "print", "--config", "/tmp/house/night.yaml"]):
            command = ["/opt/nightshift/bin/nightshift", *call]
            # With a /proc, as every container has: the loader finds `$ORIGIN` by it. Whoever is not root becomes it there.
            enter = ["unshare", "--fork", "--pid", f"--mount-proc={root}/proc"]
            enter += ["--user", "--map-root-user"] if os.geteuid() else []
            enter += ["env", "-i", "HOME=/tmp", shutil.which("chroot"), root]
            result = subprocess.run([*enter, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            if result.returncode:
                sys.exit(f"archive: in an empty root, {' '.join(command)} ends with {result.returncode}:\n{result.stderr}")
            print(f"in an empty root: nightshift {' '.join(call)}: {(result.stdout or result.stderr).splitlines()[0]}")


def main():
    program, name = Path(sys.argv[1]).resolve(), sys.argv[2]
    folder = Path(name).resolve()
    subprocess.run([program, "bundle", folder], check=True)
    for file in ("LICENSE-MIT", "LICENSE-APACHE", "README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / file, folder)
    if sys.platform == "linux":
        starts_alone(folder)
    else:
        subprocess.run([folder / "bin/nightshift", "--version"], check=True)
        print("skipped: an empty root can only be tried on Linux")
    archive = folder.with_name(f"{folder.name}.tar.gz")
    with tarfile.open(archive, "w:gz") as out:
        out.add(folder, arcname=folder.name)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    Path(f"{archive}.sha256").write_text(f"{digest}  {archive.name}\n")
    sizes = ((folder / "bin/nightshift").stat().st_size, archive.stat().st_size)
    print("{}: the program has {:.1f} MB, the archive {:.1f} MB".format(archive.name, *(size / 1e6 for size in sizes)))


if __name__ == "__main__":
    main()
