//! Gemma 3 against mlx-lm (`fixtures/golden/gemma3/variants.py`), and generation against recomputing
//! everything from scratch for each token.

mod family;
mod rounding;

use family::Family;
use models::Model;

const WINDOW: usize = 8;
const GEMMA3: Family = Family { folder: "gemma3", f32: &["text", "larger"], edge: WINDOW };

/// f32 in another order; weights in 4 bits are dequantized here and multiplied packed there.
const VARIANTS: [(&str, f32); 4] =
    [("text", 1e-4), ("text-bf16", 1e-4), ("larger", 1e-4), ("larger-4bit", 1e-3)];

#[test]
fn logits_are_mlx_lms() {
    GEMMA3.logits_are_mlx_lms(&VARIANTS);
}

/// With llama.cpp's names, and norms that hold their whole weight.
#[test]
fn a_gguf_file_is_the_same_model() {
    let model = Model::open(GEMMA3.fixture("text.gguf")).unwrap();
    let apart = GEMMA3.difference(&model, "text", "logits");
    println!("{apart:.1e}");
    let most = if rounding::in_f32(&model) { 1e-4 } else { family::IN_16_BITS };
    assert!(apart <= most, "{apart:e}");
}

#[test]
fn rows_laid_end_to_end_do_not_see_each_other() {
    GEMMA3.rows_do_not_see_each_other();
}

/// Prompts within the window, at its edge and beyond.
#[test]
fn batched_and_cached_is_single_and_recomputed() {
    GEMMA3.batched_is_single(1..3 * WINDOW, 1..WINDOW + 4, 3 * WINDOW);
}

#[test]
fn joining_and_leaving_change_nothing() {
    GEMMA3.joining_and_leaving_change_nothing();
}

#[test]
fn shared_beginnings_change_nothing() {
    GEMMA3.shared_beginnings_change_nothing();
}
