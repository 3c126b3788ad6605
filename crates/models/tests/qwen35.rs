//! Qwen3.5 against mlx-lm (`fixtures/golden/qwen35/variants.py`), and generation against recomputing
//! everything from scratch for each token.

mod family;
mod rounding;

use family::Family;

/// The longest chunk of the gated delta rule.
const CHUNK: usize = 32;
const QWEN35: Family =
    Family { folder: "qwen35", f32: &["untied", "tied", "unequal", "experts"], edge: CHUNK };

/// f32 in another order; weights in 4 bits are dequantized here and multiplied packed there.
const VARIANTS: [(&str, f32); 8] = [
    ("untied", 2e-4),
    ("untied-hf", 2e-4),
    ("tied", 2e-4),
    ("unequal", 2e-4),
    ("tied-4bit", 1e-3),
    ("experts", 2e-4),
    ("experts-hf", 2e-4),
    ("experts-4bit", 1e-3),
];

#[test]
fn logits_are_mlx_lms() {
    QWEN35.logits_are_mlx_lms(&VARIANTS);
}

#[test]
fn rows_laid_end_to_end_do_not_see_each_other() {
    QWEN35.rows_do_not_see_each_other();
}

/// Prompts shorter than the convolution, of one chunk and of several.
#[test]
fn batched_and_cached_is_single_and_recomputed() {
    QWEN35.batched_is_single(1..2 * CHUNK + 2, 1..6, 0);
}

#[test]
fn joining_and_leaving_change_nothing() {
    QWEN35.joining_and_leaving_change_nothing();
}

#[test]
fn shared_beginnings_change_nothing() {
    QWEN35.shared_beginnings_change_nothing();
}
