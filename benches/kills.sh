#!/usr/bin/env bash
# Runs of a tiny model, killed by SIGKILL at moments spread over them and resumed until they get
# through: each must end with the bytes of an uninterrupted run.
#
#   benches/kills.sh [RUNS]      100 if not said otherwise
set -euo pipefail
cd "$(dirname "$0")/.."
LORA_TRAIN_KILLED_RUNS="${1:-100}" cargo test --release -p nightshift-lora-train --test resume -- --exact killed_at_any_moment --nocapture
