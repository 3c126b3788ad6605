//! Llama's relatives against mlx-lm (`fixtures/golden/llamas/variants.py`), and generation against
//! recomputing everything from scratch for each token.

mod family;
mod rounding;

use family::Family;
use models::{Adapter, Error, Model};

/// Of the Mistral.
const WINDOW: usize = 8;
const LLAMAS: Family = Family {
    folder: "llamas",
    f32: &["qwen2", "qwen3", "mistral", "llama-yarn", "qwen3moe"],
    edge: WINDOW,
};

/// f32 in another order; weights in 4 bits are dequantized here and multiplied packed there.
const VARIANTS: [(&str, f32); 9] = [
    ("qwen2", 1e-4),
    ("qwen2-4bit-yarn", 1e-3),
    ("qwen3", 1e-4),
    ("mistral", 1e-4),
    ("llama-yarn", 1e-4),
    ("llama-dynamic", 1e-4),
    ("qwen3moe", 1e-4),
    ("qwen3moe-4bit", 1e-3),
    ("qwen3moe-hf", 1e-4),
];

#[test]
fn logits_are_mlx_lms() {
    LLAMAS.logits_are_mlx_lms(&VARIANTS);
}

/// With llama.cpp's names.
#[test]
fn a_gguf_file_is_the_same_model() {
    for name in ["qwen2", "qwen3", "qwen3moe"] {
        let model = Model::open(LLAMAS.fixture(&format!("{name}.gguf"))).unwrap();
        let apart = LLAMAS.difference(&model, name, "logits");
        println!("{name}: {apart:.1e}");
        let most = if rounding::in_f32(&model) { 1e-4 } else { family::IN_16_BITS };
        assert!(apart <= most, "{name}: {apart:e}");
    }
}

#[test]
fn rows_laid_end_to_end_do_not_see_each_other() {
    LLAMAS.rows_do_not_see_each_other();
}

/// Prompts within the window, at its edge and beyond.
#[test]
fn batched_and_cached_is_single_and_recomputed() {
    LLAMAS.batched_is_single(1..3 * WINDOW, 1..WINDOW + 4, 3 * WINDOW);
}

#[test]
fn joining_and_leaving_change_nothing() {
    LLAMAS.joining_and_leaving_change_nothing();
}

#[test]
fn shared_beginnings_change_nothing() {
    LLAMAS.shared_beginnings_change_nothing();
}

/// Beyond the length it was trained for, dynamic scaling changes the frequencies of all tokens of a row with
/// the row's length.
#[test]
fn rows_for_which_dynamic_scaling_would_change_the_frequencies_are_refused() {
    let model = LLAMAS.open("llama-dynamic");
    let adapter = Adapter::none(&model);
    assert!(model.logits(&[1; 64], &adapter).is_ok());
    let error = model.logits(&[1; 65], &adapter).unwrap_err();
    assert!(matches!(error, Error::Argument { name: "tokens", .. }), "{error}");
    assert!(error.to_string().ends_with("found 65"), "{error}");
}
