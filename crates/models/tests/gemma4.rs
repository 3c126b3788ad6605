//! Gemma 4 against mlx-lm (`fixtures/golden/gemma4/variants.py`), and generation against recomputing
//! everything from scratch for each token.

mod family;
mod rounding;

use family::Family;
use models::{Kernels, Model, OpenOptions};

const WINDOW: usize = 8;
const GEMMA4: Family =
    Family { folder: "gemma4", f32: &["dense", "separate", "shared", "experts"], edge: WINDOW };

/// f32 in another order; weights in 4 and 8 bits are dequantized here and multiplied packed there.
const VARIANTS: [(&str, f32); 9] = [
    ("dense", 2e-4),
    ("separate", 2e-4),
    ("shared", 2e-4),
    ("experts", 2e-4),
    ("dense-4bit", 1e-3),
    ("shared-4bit", 1e-3),
    ("experts-mixed", 1e-3),
    ("dense-floats", 1e-3),
    ("dense-bf16", 2e-4),
];

#[test]
fn logits_are_mlx_lms() {
    GEMMA4.logits_are_mlx_lms(&VARIANTS);
}

/// A CPU computes in f32 whatever the weights are. mlx-lm's own logits in f32 are as far from those
/// that it computes in bf16, which keeps three digits of each step.
#[test]
fn logits_in_bf16_are_far_from_those_in_f32() {
    let blas = GEMMA4.fixture("dense-bf16");
    let blas = Model::open_with(blas, OpenOptions::default().kernels(Kernels::Blas)).unwrap();
    let apart = GEMMA4.difference(&blas, "dense-bf16", "logits_bf16");
    println!("{apart:.1e}");
    assert!((1e-3..5e-2).contains(&apart), "{apart:e}");
}

#[test]
fn rows_laid_end_to_end_do_not_see_each_other() {
    GEMMA4.rows_do_not_see_each_other();
}

/// Prompts within the window, at its edge and beyond.
#[test]
fn batched_and_cached_is_single_and_recomputed() {
    GEMMA4.batched_is_single(1..3 * WINDOW, 1..WINDOW + 4, 3 * WINDOW);
}

#[test]
fn joining_and_leaving_change_nothing() {
    GEMMA4.joining_and_leaving_change_nothing();
}

#[test]
fn shared_beginnings_change_nothing() {
    GEMMA4.shared_beginnings_change_nothing();
}

/// Two of three layers look back through a window; the third has one head of 16 for keys and values.
#[test]
fn caches_of_layers_with_a_window_stop_growing() {
    let model = GEMMA4.open("dense");
    let (short, long) = (model.cache_bytes(10 * WINDOW), model.cache_bytes(20 * WINDOW));
    assert_eq!(long - short, 10 * WINDOW * 2 * 16 * model.bytes_per_value());
}
