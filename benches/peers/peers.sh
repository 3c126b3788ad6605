#!/usr/bin/env bash
# Runs the same workloads with Nightshift and with Python peers, in a virtual environment (target/peers).
#
#   benches/peers/peers.sh parity              regenerate the golden updates and compare with them
#   benches/peers/peers.sh throughput MODEL    training: Nightshift and mlx_lm.lora
#   benches/peers/peers.sh peft MODEL          training: Nightshift and torch with PEFT
#   benches/peers/peers.sh generate MODEL      prefill and decoding: Nightshift and mlx_lm
#   benches/peers/peers.sh serve MODEL         1, 8 and 32 streaming clients: Nightshift, llama-server, mlx_lm.server
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
# Builds llama-server from the sources in the package llama-cpp-python, unless LLAMA_SERVER names one.
llama_server() {
  local folder="target/peers-llama" release="llama_cpp_python-0.3.36"
  if [ -z "${LLAMA_SERVER:-}" ] && [ ! -x "$folder/build/bin/llama-server" ]; then
    "$python" -m pip install --quiet cmake ninja
    "$python" -m pip download --quiet --no-deps --dest "$folder" llama-cpp-python==0.3.36
    tar -xzf "$folder/$release.tar.gz" -C "$folder"
    PATH="$PWD/target/peers/bin:$PATH"
    cmake -G Ninja -S "$folder/$release/vendor/llama.cpp" -B "$folder/build" -DCMAKE_BUILD_TYPE=Release \
      -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_OPENSSL=OFF \
      -DLLAMA_USE_PREBUILT_UI=OFF >"$folder/cmake.log"
    ninja -C "$folder/build" llama-server >"$folder/ninja.log"
  fi
  echo "${LLAMA_SERVER:-$folder/build/bin/llama-server}"
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
  serve)
    model="${2:?the path of a Llama .gguf}"
    cargo build --release --locked --bin nightshift
    mkdir -p target/peers-serving
    server="$(llama_server)"
    "$python" benches/peers/serving.py --model "$model" --llama-server "$server" --work target/peers-serving \
      --nightshift "${CARGO_TARGET_DIR:-target}/release/nightshift" "${@:3}"
    ;;
  *)
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
