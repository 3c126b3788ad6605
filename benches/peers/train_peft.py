"""Trains with torch and PEFT in f32 on rows of tokens, and prints what it cost as JSON.

    python train_peft.py --model DIR --rows rows.jsonl --updates 2

DIR is what `convert.py --dense` writes. Batches of four rows are padded to their longest row, as
PEFT's users do it; padding is not counted as work done. A row is
{"tokens": [...], "trained": [[start, end]]}.
"""

import argparse
import json
import resource
import statistics
import time
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

UNTRAINED = -100


def collate(rows):
    longest = max(len(row["tokens"]) for row in rows)
    tokens = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full_like(tokens, UNTRAINED)
    mask = torch.zeros_like(tokens)
    for i, row in enumerate(rows):
        length = len(row["tokens"])
        tokens[i, :length] = torch.tensor(row["tokens"])
        mask[i, :length] = 1
        for start, end in row["trained"]:
            labels[i, start:end] = tokens[i, start:end]
    return {"input_ids": tokens, "attention_mask": mask, "labels": labels}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--updates", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--scale", type=float, default=20.0)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    args = parser.parse_args()

    torch.manual_seed(0)
    rows = [json.loads(line) for line in args.rows.read_text().splitlines()]
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lora = LoraConfig(
        r=args.rank, lora_alpha=args.scale * args.rank, target_modules=targets, task_type="CAUSAL_LM"
    )
    model = get_peft_model(model, lora)
    model.train()
    optimizer = torch.optim.Adam(
        (p for p in model.parameters() if p.requires_grad), lr=args.learning_rate
    )
    # The last token of a row is predicted, never read.
    processed = sum(len(row["tokens"]) - 1 for row in rows)
    trained = sum(end - max(start, 1) for row in rows for start, end in row["trained"])

    seconds, losses = [], []
    for _ in range(args.updates):
        begun = time.perf_counter()
        total = 0.0
        for start in range(0, len(rows), args.batch):
            batch = collate(rows[start : start + args.batch])
            # Weighted by tokens, as an update's mean is.
            share = (batch["labels"][:, 1:] != UNTRAINED).sum().item() / trained
            loss = model(**batch, use_cache=False).loss * share
            loss.backward()
            total += loss.item()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - begun)
        losses.append(total)
    median = statistics.median(seconds)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        json.dumps(
            {
                "processed_tokens_per_second": processed / median,
                "trained_tokens_per_second": trained / median,
                "peak_memory_bytes": None,
                "peak_rss_bytes": rss,
                "loss": losses[0],
            }
        )
    )


if __name__ == "__main__":
    main()
