#!/usr/bin/env python3
"""The path of Metal and CUDA, run on MLX's CPU backend: the same operations, without a device.

Runs the tests of models, lora-train and those of eval that open a model under NIGHTSHIFT_KERNELS=native (16 bits), the
tests of models and lora-train under native-f32 too (the same operations with tight tolerances), and a tiny night of a
Gemma 4 and of a Qwen3.5. What a test skips there is printed. Everything has been built by `cargo test --workspace`. Ends with 1 if a test fails, or if
all of them take longer than the limit.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

LIMIT = 15 * 60
RUNS = [
    ("native", ["models", "lora-train", "eval/model"], []),
    ("native-f32", ["models", "lora-train"], []),
    ("native", ["pipeline/night"], ["a_night_runs_on"]),
]


def executables():
    """Test executables by `crate/target`, with the folder to run each in."""
    command = "cargo test --workspace --no-run --locked --message-format=json".split()
    built = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    found = {}
    for line in built.splitlines():
        message = json.loads(line)
        if message["reason"] == "compiler-artifact" and message["executable"] and message["profile"]["test"]:
            folder = Path(message["manifest_path"]).parent
            found[f"{folder.name}/{message['target']['name']}"] = (message["executable"], folder)
    return found


def main():
    deadline = time.monotonic() + LIMIT
    failed = []
    tests = executables()
    names = {part for name in tests for part in (name, name.split("/")[0])}
    for kernels, wanted, filters in RUNS:
        if missing := sorted(set(wanted) - names):
            sys.exit(f"{kernels}: expected test executables named {', '.join(missing)}, found none")
        for name, (program, folder) in sorted(tests.items()):
            if name not in wanted and name.split("/")[0] not in wanted:
                continue
            begun = time.monotonic()
            left = deadline - begun
            command = [program, "--show-output", *filters]
            environment = os.environ | {"NIGHTSHIFT_KERNELS": kernels}
            try:
                done = subprocess.run(
                    command, cwd=folder, env=environment, timeout=max(left, 1), text=True,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                )
            except subprocess.TimeoutExpired:
                sys.exit(f"{kernels} {name}: the native tests take longer than {LIMIT} s together")
            print(f"{kernels} {name}: {time.monotonic() - begun:.0f} s, {summary(done.stdout)}", flush=True)
            for line in done.stdout.splitlines():
                if line.startswith("skipped"):
                    print(f"  {line}")
            # A filter that matches no test would pass too.
            if done.returncode != 0 or (filters and " 0 passed" in summary(done.stdout)):
                failed.append(f"{kernels} {name}")
                print(done.stdout)
    if failed:
        sys.exit("failed: " + ", ".join(failed))


def summary(output):
    results = [line for line in output.splitlines() if line.startswith("test result:")]
    return results[-1].removeprefix("test result: ").split("; 0 ignored")[0] if results else "no result"


if __name__ == "__main__":
    main()
