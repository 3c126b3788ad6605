"""Turns a quantized Llama GGUF into a folder that mlx_lm opens, bit for bit the same weights.

    python convert.py model.gguf out/
    python convert.py --dense model.gguf out/     dequantized to f32, as transformers reads it

GGUF's Q4_1 and Q8_0 are MLX's affine quantization in groups of 32. Llama GGUFs have the rows of
Q and K permuted for interleaved rotary embeddings, which mlx_lm calls `rope_traditional`.
There is no tokenizer in the folder: the peers are given tokens.
"""

import json
import sys
from pathlib import Path

import mlx.core as mx

NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def renamed(name):
    stem, part = name.rsplit(".", 1)
    if not stem.startswith("blk."):
        return f"{NAMES[stem]}.{part}"
    _, layer, module = stem.split(".")
    return f"model.layers.{layer}.{NAMES[module]}.{part}"


def quantization_of(weights):
    """The most common width, and an entry for each module that has another."""
    bits = {}
    for name, scales in weights.items():
        if name.endswith(".scales"):
            module = name.removesuffix(".scales")
            inputs = scales.shape[-1] * 32
            bits[module] = weights[f"{module}.weight"].shape[-1] * 32 // inputs
    common = max(set(bits.values()), key=list(bits.values()).count)
    others = {module: {"group_size": 32, "bits": b} for module, b in bits.items() if b != common}
    return {"group_size": 32, "bits": common, **others}


def dequantized(weights, config):
    """Plain f32 matrices, rows of Q and K back in the order of the original checkpoint."""
    dense = {}
    for name, array in weights.items():
        module, part = name.rsplit(".", 1)
        if part != "weight":
            continue
        if f"{module}.scales" in weights:
            scales, biases = weights[f"{module}.scales"], weights[f"{module}.biases"]
            bits = array.shape[-1] // scales.shape[-1]  # 32-bit words of 32 weights
            array = mx.dequantize(array, scales, biases, group_size=32, bits=bits)
        for projection, heads in [
            ("q_proj", config["num_attention_heads"]),
            ("k_proj", config["num_key_value_heads"]),
        ]:
            if module.endswith(projection):
                columns = array.shape[-1]
                array = array.reshape(heads, -1, 2, columns).swapaxes(1, 2).reshape(-1, columns)
        dense[name] = array.astype(mx.float32)
    return dense


def convert(source, target, dense=False):
    raw, meta = mx.load(str(source), return_metadata=True)
    weights = {renamed(name): array for name, array in raw.items() if name != "rope_freqs.weight"}
    number = lambda key: meta[f"llama.{key}"].item()
    config = {
        "model_type": "llama",
        "hidden_size": number("embedding_length"),
        "num_hidden_layers": number("block_count"),
        "intermediate_size": number("feed_forward_length"),
        "num_attention_heads": number("attention.head_count"),
        "num_key_value_heads": number("attention.head_count_kv"),
        "rms_norm_eps": number("attention.layer_norm_rms_epsilon"),
        "vocab_size": weights["model.embed_tokens.weight"].shape[0],
        "rope_theta": number("rope.freq_base"),
        "rope_traditional": True,
        "tie_word_embeddings": "lm_head.weight" not in weights,
    }
    if dense:
        weights = dequantized(weights, config)
        config |= {"architectures": ["LlamaForCausalLM"], "rope_traditional": False}
    else:
        config["quantization"] = quantization_of(weights)
    target.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(target / "model.safetensors"), weights, {"format": "mlx"})
    (target / "config.json").write_text(json.dumps(config, indent=1) + "\n")


if __name__ == "__main__":
    *options, source, target = sys.argv[1:]
    convert(Path(source), Path(target), dense=options == ["--dense"])
