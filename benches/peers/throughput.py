"""Ours beside a peer on the same rows, the same 4-bit weights and the same machine.

    python throughput.py --model SmolLM2-135M-Instruct.Q4_1.gguf
    python throughput.py --model SmolLM2-135M-Instruct.Q4_1.gguf --torch-python PYTHON

Run it in the environment that peers.sh makes. Rank 8 on every linear layer of every decoder layer,
sixteen rows an update, Adam, the loss on answers only. The peer is mlx_lm.lora, one row a
micro-step; or, with the interpreter of an environment that has it, torch and PEFT on the
dequantized weights in f32, in padded batches of four. Speeds are medians: over updates, and of
mlx_lm's over micro-steps, so that its compilations do not count. Tokens are real ones; padding is
not counted as work.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import convert

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ACCUMULATE = 16


def cargo(*arguments):
    subprocess.run(["cargo", *arguments], cwd=ROOT, check=True)


def measured(command):
    """Runs a command; what it printed, and the most memory it had."""
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"{command[0]} ended with {child.returncode}")
    # Linux counts in KiB, macOS in bytes.
    return output, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def example(name):
    return str(ROOT / "target" / "release" / "examples" / name)


def prepare(model, work):
    """Sixteen council rows, as messages and as tokens."""
    cargo("build", "--release", "--examples", "-p", "nightshift-examples", "-p", "nightshift-benches")
    subprocess.run([example("household"), "--rows", "64", "--out", work / "raw.jsonl"], cwd=ROOT, check=True)
    subprocess.run([example("convert"), work / "raw.jsonl", work / "clean.jsonl"], cwd=ROOT, check=True)
    rows = (work / "clean.jsonl").read_text().splitlines(keepends=True)[:ACCUMULATE]
    (work / "data").mkdir()
    (work / "data" / "train.jsonl").write_text("".join(rows))
    tokens, _ = measured([example("peer-rows"), str(model), str(work / "data" / "train.jsonl"), str(ACCUMULATE)])
    (work / "tokens.jsonl").write_text(tokens)


def ours(model, work, updates):
    config = {
        "model": str(model),
        "data": str(work / "data"),
        "adapter_path": str(work / "ours"),
        "lora_parameters": {"rank": 8, "scale": 20.0, "dropout": 0.0},
        "num_layers": -1,
        "batch_size": 1,
        "grad_accumulation_steps": ACCUMULATE,
        "iters": updates * ACCUMULATE,
        "learning_rate": 1e-4,
        "mask_prompt": True,
        "max_seq_length": 512,
    }
    # JSON is YAML.
    (work / "ours.yaml").write_text(json.dumps(config))
    output, rss = measured([example("train"), "--config", str(work / "ours.yaml"), "--json"])
    lines = [json.loads(line) for line in output.splitlines()]
    made = [line for line in lines if "kind" not in line]
    speed = lambda key: statistics.median(update[key] / update["seconds"] for update in made)
    return {
        "processed_tokens_per_second": speed("processed_tokens"),
        "trained_tokens_per_second": speed("trained_tokens"),
        "peak_memory_bytes": made[-1]["peak_memory_bytes"],
        "peak_rss_bytes": rss,
        "loss": made[0]["loss"],
        "computed_tokens": made[0]["computed_tokens"],
        "processed_tokens": made[0]["processed_tokens"],
    }


def mlx_lm(model, work, iters):
    convert.convert(model, work / "mlx")
    command = [sys.executable, HERE / "train_mlx_lm.py", "--model", work / "mlx", "--rows", work / "tokens.jsonl"]
    output, rss = measured([*map(str, command), "--iters", str(iters), "--accumulate", str(ACCUMULATE)])
    return json.loads(output) | {"peak_rss_bytes": rss}


def peft(model, work, python, updates):
    convert.convert(model, work / "dense", dense=True)
    command = [python, HERE / "train_peft.py", "--model", work / "dense", "--rows", work / "tokens.jsonl"]
    output, _ = measured([*map(str, command), "--updates", str(updates)])
    return json.loads(output)


def table(results):
    print("| | processed tokens/s | trained tokens/s | MLX peak | process peak | loss of the first rows |")
    print("|---|---|---|---|---|---|")
    size = lambda bytes: f"{bytes / 1e9:.2f} GB" if bytes else "-"
    for name, r in results.items():
        print(
            f"| {name} | {r['processed_tokens_per_second']:.1f} | {r['trained_tokens_per_second']:.1f} "
            f"| {size(r['peak_memory_bytes'])} | {size(r['peak_rss_bytes'])} | {r['loss']:.4f} |"
        )
    ours, theirs = results.values()
    ratio = lambda key: ours[key] / theirs[key]
    print(
        f"\nOurs is {ratio('processed_tokens_per_second'):.2f} times as fast, "
        f"in {100 * ratio('peak_rss_bytes'):.0f} % of its memory. It computes {ours['computed_tokens']} of the "
        f"{ours['processed_tokens']} tokens of an update: what rows begin with alike, once."
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--updates", type=int, default=3, help="ours")
    parser.add_argument("--iters", type=int, default=ACCUMULATE, help="micro-steps of mlx_lm")
    parser.add_argument("--torch-python", type=Path, help="compare with torch and PEFT instead")
    args = parser.parse_args()
    model = args.model.resolve()
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        prepare(model, work)
        results = {"nightshift": ours(model, work, args.updates)}
        if args.torch_python:
            results["torch + PEFT"] = peft(model, work, args.torch_python, args.updates)
        else:
            results["mlx_lm.lora"] = mlx_lm(model, work, args.iters)
        table(results)


if __name__ == "__main__":
    main()
