#!/usr/bin/env bash
# Runs the same workloads with Nightshift and with Python peers, in a virtual environment (target/peers).
#
#   benches/peers/peers.sh parity              regenerate the golden updates and compare with them
#   benches/peers/peers.sh throughput MODEL    training: Nightshift and mlx_lm.lora
#   benches/peers/peers.sh peft MODEL          training: Nightshift and torch with PEFT
#   benches/peers/peers.sh generate MODEL      prefill and decoding: Nightshift and mlx_lm
set -euo pipefail
cd "$(dirname "$0")/../.."
# Creates the virtual environment target/$1 with the requirements of file $2, unless it is up to date.
environment() {
  local folder="target/$1" wanted="benches/peers/$2"
  if ! cmp -s "$wanted" "$folder/requirements.txt"; then
    python3 -m venv --clear "$folder"
    "$folder/bin/python" -m pip install --quiet --requirement "$wanted"
    cp "$wanted" "$folder/requirements.txt"
  fi
}
python=target/peers/bin/python
environment peers requirements.txt
case "${1:-}" in
  parity)
    "$python" fixtures/golden/mlx_lm/parity.py
    cargo test -p nightshift-lora-train --test parity -- --nocapture
    ;;
  throughput)
    "$python" benches/peers/throughput.py --model "${2:?the path of a Llama .gguf}" "${@:3}"
    ;;
  peft)
    environment peers-torch requirements-torch.txt
    "$python" benches/peers/throughput.py --model "${2:?the path of a Llama .gguf}" \
      --torch-python target/peers-torch/bin/python "${@:3}"
    ;;
  generate)
    cargo build --release -p nightshift-benches --example generation
    echo "nightshift:"
    target/release/examples/generation "${2:?the path of a Llama .gguf}"
    "$python" benches/peers/convert.py "$2" target/peers-model
    echo "mlx_lm:"
    "$python" benches/peers/generate_mlx_lm.py --model target/peers-model
    ;;
  *)
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
