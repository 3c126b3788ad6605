"""mlx-lm's gated delta rule as it trains with it, forward and backward: see ../gated_delta.rs.

    python gated_delta.py [LENGTH ...]
"""

import sys
import time

import mlx.core as mx
from mlx_lm.models.gated_delta import gated_delta_ops

KEY_HEADS, VALUE_HEADS, WIDTH = 16, 48, 128


def inputs(length):
    normal = lambda heads: mx.random.normal((1, length, heads, WIDTH))
    unit = lambda heads: mx.fast.rms_norm(normal(heads), None, 1e-6)
    gate = lambda low, high: mx.random.uniform(low, high, (1, length, VALUE_HEADS))
    decay = mx.exp(gate(-3.0, -0.001))
    return [unit(KEY_HEADS) / WIDTH, unit(KEY_HEADS) * WIDTH**-0.5, normal(VALUE_HEADS), decay, gate(0.0, 1.0)]


def main():
    mx.set_default_device(mx.cpu)
    lengths = [int(word) for word in sys.argv[1:]] or [128, 512]
    print("| tokens | ms | ms a token | MB | MB a token |\n|--:|--:|--:|--:|--:|")
    for length in lengths:
        arrays = inputs(length)
        cotangent = mx.random.normal((1, length, VALUE_HEADS, WIDTH))
        mx.eval(arrays, cotangent)
        mx.reset_peak_memory()
        start = time.perf_counter()
        outputs, gradients = mx.vjp(lambda *args: [gated_delta_ops(*args)[0]], arrays, [cotangent])
        mx.eval(outputs, gradients)
        ms = (time.perf_counter() - start) * 1e3
        mb = mx.get_peak_memory() / 1e6
        print(f"| {length} | {ms:.0f} | {ms / length:.3f} | {mb:.0f} | {mb / length:.3f} |", flush=True)
        del outputs, gradients, arrays, cotangent
        mx.clear_cache()


if __name__ == "__main__":
    main()
