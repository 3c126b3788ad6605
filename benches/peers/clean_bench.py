"""Times the `convert` example beside clean_chatml.py on the same file, one after the other, and compares what they wrote.
Rows that the peer does not know (tool calls, other shapes) are left out of the file, and counted.

    cargo run --release --example household -- --out raw.jsonl
    python benches/peers/clean_bench.py raw.jsonl target/release/examples/convert [GB] [ROUNDS]
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

PEER = Path(__file__).with_name("clean_chatml.py")


def is_plain(line):
    """Whether a row has messages of a role and a text and nothing else, which is what the peer cleans."""
    row = json.loads(line)
    return list(row)[:1] == ["messages"] and all(
        message.keys() == {"role", "content"} and isinstance(message["content"], str) for message in row["messages"]
    )


def grow(rows, target, size):
    """A file of `size` bytes or a little more: the rows with markup inside `messages`, again and again."""
    rows = rows.read_bytes().splitlines(keepends=True)
    lines = [line for line in rows if is_plain(line)]
    print(f"{len(lines)} of {len(rows)} rows, repeated", flush=True)
    block = b"".join(lines * (1 + (8 << 20) // sum(map(len, lines))))
    with target.open("wb") as out:
        while out.tell() < size:
            out.write(block)


def run(command):
    start = time.perf_counter()
    child = os.spawnvp(os.P_NOWAIT, command[0], command)
    _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"{command[0]} failed")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def equal(a, b):
    with a.open("rb") as left, b.open("rb") as right:
        while True:
            ours, theirs = left.read(1 << 20), right.read(1 << 20)
            if ours != theirs:
                return False
            if not ours:
                return True


def main(rows, convert, gigabytes=1.0, rounds=3):
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        folder = Path(folder)
        raw, ours, theirs = (folder / name for name in ("raw.jsonl", "ours.jsonl", "theirs.jsonl"))
        grow(Path(rows), raw, gigabytes * 1e9)
        for _ in range(int(rounds)):
            peer = run([sys.executable, str(PEER), str(raw), str(theirs)])
            own = run([convert, str(raw), str(ours)])
            for name, (wall, cpu, rss) in (("python", peer), ("convert", own)):
                print(f"{name:8} {wall:7.1f} s  {cpu:7.1f} CPU s  {rss:6.0f} MiB  {raw.stat().st_size / wall / 1e6:7.1f} MB/s")
            load = os.getloadavg()[0]
            print(f"wall {peer[0] / own[0]:.1f}x, CPU {peer[1] / own[1]:.1f}x, load {load:.1f}, same bytes: {equal(ours, theirs)}", flush=True)


main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:5]))
