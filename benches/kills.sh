#!/usr/bin/env bash
# Training runs of a tiny model, killed by SIGKILL at various times and resumed until they finish.
# Each must end with the same bytes as an uninterrupted run.
#
#   benches/kills.sh [RUNS]      default: 100
set -euo pipefail
cd "$(dirname "$0")/.."
LORA_TRAIN_KILLED_RUNS="${1:-100}" cargo test --release -p nightshift-lora-train --test resume -- --exact killed_at_any_moment --nocapture
