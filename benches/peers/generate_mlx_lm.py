"""Prefill and decoding with mlx_lm's model and caches, as JSON lines.

    python generate_mlx_lm.py --model DIR --batches 1 8 32

The inner loop of mlx_lm.generate and batch_generate without what surrounds it: the prompts in one
call, then the most probable token of each row, call by call. Prompts are random tokens, all of one
length, so that no padding takes part. Same arguments and seeds as the example `generation`.
"""

import argparse
import json
import time
from pathlib import Path

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model


def tokens_of(batch, length, vocabulary):
    """The same as in the example: a linear congruence, row after row."""
    state, rows = 1, []
    for _ in range(batch):
        row = []
        for _ in range(length):
            state = (state * 1103515245 + 12345) % (1 << 31)
            row.append(state // 65536 % vocabulary)
        rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--new", type=int, default=8)
    args = parser.parse_args()
    model, config = load_model(args.model)
    for batch in args.batches:
        prompts = mx.array(tokens_of(batch, args.prompt, config["vocab_size"]))
        cache = make_prompt_cache(model)
        begun = time.perf_counter()
        last = mx.argmax(model(prompts, cache=cache)[:, -1], axis=-1)
        mx.eval(last)
        prefilled = time.perf_counter()
        out = [last]
        for _ in range(args.new):
            last = mx.argmax(model(last[:, None], cache=cache)[:, -1], axis=-1)
            mx.eval(last)
            out.append(last)
        ended = time.perf_counter()
        print(
            json.dumps(
                {
                    "batch": batch,
                    "prefill_tokens_per_second": batch * args.prompt / (prefilled - begun),
                    "decode_tokens_per_second": batch * args.new / (ended - prefilled),
                    "first_row": [row[0].item() for row in out],
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
