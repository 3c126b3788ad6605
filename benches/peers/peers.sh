#!/usr/bin/env bash
# The same work in Python, in an environment of its own (target/peers).
#
#   benches/peers/peers.sh parity              make the golden updates anew and compare ours
#   benches/peers/peers.sh throughput MODEL    a table: ours beside mlx_lm.lora
set -euo pipefail
cd "$(dirname "$0")/../.."
python=target/peers/bin/python
if ! cmp -s benches/peers/requirements.txt target/peers/requirements.txt; then
  python3 -m venv --clear target/peers
  "$python" -m pip install --quiet --requirement benches/peers/requirements.txt
  cp benches/peers/requirements.txt target/peers/
fi
case "${1:-}" in
  parity)
    "$python" fixtures/golden/mlx_lm/parity.py
    cargo test -p lora-train --test parity -- --nocapture
    ;;
  throughput)
    "$python" benches/peers/throughput.py --model "${2:?the path of a Llama .gguf}" "${@:3}"
    ;;
  *)
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
