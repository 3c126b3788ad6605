#!/usr/bin/env python3
"""Fails if a dependency asks for a newer Rust than the workspace's `rust-version`.

    python3 .ci/msrv.py
"""

import json
import subprocess
import sys


def number(version):
    return [int(part) for part in version.split(".")]


metadata = json.loads(subprocess.check_output(["cargo", "metadata", "--format-version", "1", "--locked"]))
ours = {package["rust_version"] for package in metadata["packages"] if package["source"] is None}
if len(ours) != 1 or None in ours:
    sys.exit(f"msrv: expected one rust-version in all packages of the workspace, found {ours}")
stated = ours.pop()
newer = [
    f"{package['name']} {package['version']} needs {package['rust_version']}"
    for package in metadata["packages"]
    if package["rust_version"] and number(package["rust_version"]) > number(stated)
]
if newer:
    sys.exit(f"msrv: rust-version is {stated}, but {', '.join(newer)}")
print(f"msrv: {stated}, enough for {len(metadata['packages'])} packages")
