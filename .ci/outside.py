#!/usr/bin/env python3
"""Builds the projects in examples/outside as another project would: outside the checkout, each its own workspace.

    python3 .ci/outside.py     exits with 1 at the first check that fails
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Kept between runs. The space and the letters check that such folders work.
TARGET = ROOT / "target" / "outside füße"
PATCH_LINE = 'mlx-sys = { git = "https://github.com/nightshift-rs/nightshift" }'
MOST_CRATES = 60
FIVE_TOKENS = [7042, 30, 198, 198, 504]


def fail(message):
    sys.exit(f"outside: FAILED: {message}")


def copy(name, folder):
    """Copies a template with the checkout's absolute path and with the versions of its lock file."""
    project = Path(folder) / name
    shutil.copytree(ROOT / "examples" / "outside" / name, project)
    manifest = project / "Cargo.toml"
    manifest.write_text(manifest.read_text().replace("../../..", str(ROOT)))
    shutil.copy(ROOT / "Cargo.lock", project)
    return project


def cargo(project, *arguments):
    """Runs cargo and returns its result and the seconds it took."""
    environment = {**os.environ, "CARGO_TARGET_DIR": str(TARGET)}
    start = time.monotonic()
    result = subprocess.run(
        ["cargo", *arguments], cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    return result, time.monotonic() - start


def build(project):
    """Builds a project; returns its program, the packages that were compiled for it, and the seconds it took."""
    result, seconds = cargo(project, "build", "--message-format", "json")
    if result.returncode != 0:
        fail(f"{project.name} does not build:\n{result.stderr}")
    artifacts = [m for m in map(json.loads, result.stdout.splitlines()) if m["reason"] == "compiler-artifact"]
    [program] = [a["executable"] for a in artifacts if a["executable"]]
    return program, {a["package_id"] for a in artifacts}, seconds


def start(program, *arguments):
    """Starts a program outside cargo: in another folder, with only the places of caches in its environment."""
    environment = {name: os.environ[name] for name in ("HOME", "NIGHTSHIFT_CACHE") if name in os.environ}
    result = subprocess.run(
        [program, *arguments], cwd="/", env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    if result.returncode != 0:
        fail(f"{program} does not start outside cargo:\n{result.stderr}")
    return result.stdout


def without_mlx(project):
    """Checks that no package in a project's tree builds or binds MLX."""
    result, _ = cargo(project, "tree", "--edges", "normal,build", "--prefix", "none", "--format", "{p}")
    if result.returncode != 0:
        fail(f"{project.name}: cargo tree:\n{result.stderr}")
    packages = {line.split()[0] for line in result.stdout.splitlines() if line}
    native = packages & {"mlx-sys", "mlx-rs", "bindgen", "cmake"}
    if native:
        fail(f"{project.name} depends on {', '.join(sorted(native))}; it must build with nothing but Rust")


def cleaning(folder):
    project = copy("clean", folder)
    without_mlx(project)
    program, packages, seconds = build(project)
    crates = len(packages) - 1
    if crates > MOST_CRATES:
        fail(f"cleaning compiles {crates} crates, expected at most {MOST_CRATES}")
    raw, clean = Path(folder) / "raw.jsonl", Path(folder) / "clean.jsonl"
    text = "<|im_start|>user\\nHello<|im_end|>\\n<|im_start|>assistant\\nHi.<|im_end|>"
    raw.write_text('{"text": "%s"}\n' % text)
    start(program, str(raw), str(clean))
    messages = json.loads(clean.read_text())["messages"]
    expected = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}]
    if messages != expected:
        fail(f"cleaning: expected {expected}, found {messages}")
    return f"chat-format, cleaning only: {crates} crates (at most {MOST_CRATES}), built in {seconds:.0f} s, started outside cargo"


def dataset(folder):
    project = copy("dataset", folder)
    without_mlx(project)
    program, packages, seconds = build(project)
    suite = ROOT / "fixtures" / "suites" / "household.json"
    clean, config, data = (Path(folder) / name for name in ("clean.jsonl", "enrich.yaml", "data"))
    row = {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}]}
    clean.write_text(json.dumps(row) + "\n")
    config.write_text(f"inputs: [{clean}]\nsuites: [{suite}]\n")
    cases = int(start(program, str(config), str(suite), str(data)))
    expected = len(json.loads(suite.read_text())["cases"])
    if cases != expected or not (data / "train.jsonl").read_text():
        fail(f"dataset: expected rows and {expected} cases, found {cases} cases")
    return f"enrich, and eval without a model: {len(packages) - 1} crates, built in {seconds:.0f} s, started outside cargo"


def generation(folder):
    program, packages, seconds = build(copy("generate", folder))
    tokens = json.loads(start(program))
    if tokens != FIVE_TOKENS:
        fail(f"generation: expected the tokens {FIVE_TOKENS}, found {tokens}")
    return f"models and fetch: {len(packages) - 1} crates, built in {seconds:.0f} s, five tokens outside cargo"


def unpatched(folder):
    project = copy("generate", folder)
    manifest = project / "Cargo.toml"
    manifest.write_text(re.sub(r"\[patch\.crates-io\]\n.*\n", "", manifest.read_text()))
    result, seconds = cargo(project, "build")
    if result.returncode == 0 or PATCH_LINE not in result.stderr:
        fail(f"without the patch: expected an error with the line `{PATCH_LINE}`, found:\n{result.stderr}")
    if "build command for `mlx-sys" in result.stderr:
        fail(f"without the patch: the registry's mlx-sys was built before the error:\n{result.stderr}")
    return f"models without the patch: fails after {seconds:.0f} s with the line to add"


def main():
    for check in (cleaning, dataset, generation, unpatched):
        with tempfile.TemporaryDirectory(prefix="nightshift-outside-") as folder:
            print(f"outside: {check(folder)}", flush=True)


if __name__ == "__main__":
    main()
