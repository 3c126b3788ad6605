"""Random quantized blocks, and their weights by the `gguf` package of llama.cpp.

    pip install gguf==0.19.0
    python blocks.py [SEED]       writes blocks.gguf beside it
    cargo test -p nightshift-gguf --test blocks

For each type a tensor with its name, of any bytes except that the scales of blocks are finite (of either sign,
some of them subnormal), and a tensor `NAME.f32` with its weights.
"""

import sys
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize

# Where a block's f16 numbers are.
SCALES = {
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q2_K": [80, 82],
    "Q3_K": [108],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
    "IQ4_NL": [0],
    "IQ4_XS": [0],
}
WEIGHTS = 1024


def scales(random, count):
    """f16 numbers from 1e-7, which are subnormal, to 300."""
    sizes = np.exp(random.uniform(np.log(1e-7), np.log(300), count))
    return (sizes * random.choice([-1, 1], count)).astype(np.float16)


def main():
    random = np.random.default_rng(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    writer = GGUFWriter(str(Path(__file__).with_name("blocks.gguf")), "none")
    for name, places in SCALES.items():
        kind = GGMLQuantizationType[name]
        weights, size = GGML_QUANT_SIZES[kind]
        blocks = random.integers(0, 256, (WEIGHTS // weights, size), dtype=np.uint8)
        for place in places:
            blocks[:, place : place + 2] = scales(random, len(blocks)).view(np.uint8).reshape(-1, 2)
        writer.add_tensor(name, blocks.reshape(1, -1), raw_dtype=kind)
        writer.add_tensor(f"{name}.f32", dequantize(blocks.reshape(1, -1), kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
