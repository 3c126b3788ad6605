"""Trains with mlx_lm.lora's own loop on rows of tokens, and prints what it cost as JSON.

    python train_mlx_lm.py --model DIR --rows rows.jsonl --iters 16

A row is {"tokens": [...], "trained": [[start, end]]}. mlx_lm trains one stretch at the end of a
row, so `start` of the first is its prompt's length.
"""

import argparse
import json
import resource
import statistics
import sys
import time
from pathlib import Path

import mlx.core as mx
import mlx.optimizers as optim
from mlx_lm.tuner import trainer
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import load_model


def weighted_mean(losses, tokens, count):
    """mlx_lm reports the mean over a row's tokens; an update's is the mean over all tokens."""
    pairs = list(zip(losses, tokens))[:count]
    return sum(loss * n for loss, n in pairs) / sum(n for _, n in pairs)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--iters", type=int, default=16)
    parser.add_argument("--accumulate", type=int, default=16)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--scale", type=float, default=20.0)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--max-seq-length", type=int, default=512)
    args = parser.parse_args()

    rows = [json.loads(line) for line in args.rows.read_text().splitlines()]
    data = [(row["tokens"], row["trained"][0][0]) for row in rows]
    model, _ = load_model(args.model)
    model.freeze()
    mx.random.seed(0)
    lora = {"rank": args.rank, "scale": args.scale, "dropout": 0.0}
    linear_to_lora_layers(model, len(model.layers), lora)

    spent = []

    def batches(**options):
        """mlx_lm's batches, with what is in them and when they are asked for."""
        for batch, lengths in trainer.iterate_batches(**options):
            (offset, length), = lengths.tolist()
            spent.append([time.perf_counter(), length - 1, length - max(offset, 1)])
            yield batch, lengths

    class Losses(trainer.TrainingCallback):
        seen = []

        def on_train_loss_report(self, report):
            self.seen.append(report["train_loss"])

    mx.reset_peak_memory()
    sys.stdout, stdout = sys.stderr, sys.stdout
    trainer.train(
        model,
        optim.Adam(learning_rate=args.learning_rate),
        data,
        args=trainer.TrainingArgs(
            batch_size=1,
            iters=args.iters,
            steps_per_report=1,
            steps_per_save=1 << 30,
            adapter_file="/dev/null",
            max_seq_length=args.max_seq_length,
            grad_accumulation_steps=args.accumulate,
        ),
        iterate_batches=batches,
        training_callback=Losses(),
    )
    sys.stdout = stdout
    ends = [begun for begun, *_ in spent[1:]] + [time.perf_counter()]
    speeds = [
        (processed / (end - begun), trained / (end - begun))
        for (begun, processed, trained), end in zip(spent, ends)
    ][: args.iters]
    print(
        json.dumps(
            {
                "processed_tokens_per_second": statistics.median(p for p, _ in speeds),
                "trained_tokens_per_second": statistics.median(t for _, t in speeds),
                "peak_memory_bytes": mx.get_peak_memory(),
                "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "loss": weighted_mean(Losses.seen, [trained for *_, trained in spent], args.accumulate),
            }
        )
    )


if __name__ == "__main__":
    main()
