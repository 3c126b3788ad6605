//! Tolerances by the type that a model computes in: `NIGHTSHIFT_KERNELS=native` runs these tests in 16 bits.
#![allow(dead_code, reason = "each test file uses its share")]

use models::{Adapter, Model};

/// Unit roundoff of bf16, which has 8 bits of precision.
const ROUNDOFF: f64 = 1.0 / 512.0;

/// How many roundoffs the worst of some thousand logits may be off by. A tiny model rounds each value about
/// 40 times, at random: 6 roundoffs, and four standard deviations are 25. These checkpoints are badly
/// conditioned, which makes it four times as many. Whether 16 bits lose more than they must,
/// `fixtures/golden/precision.py` tells; exactness is that of `NIGHTSHIFT_KERNELS=native-f32`.
const ROUNDINGS: f64 = 100.0;

/// Whether the model computes in f32, so that sums in another order differ in the last digits only.
pub fn in_f32(model: &Model) -> bool {
    model.bytes_per_value() == 4
}

/// The tolerance for values of a forward pass, relative to the largest: `f32`, or what 16 bits allow.
pub fn tolerance(model: &Model, f32: f64) -> f64 {
    if in_f32(model) { f32 } else { ROUNDINGS * ROUNDOFF }
}

/// Whether `new` is the greedy continuation of `prompt`, by logits without a cache or a batch. In 16 bits
/// another order of sums may swap logits that are closer than half the tolerance.
pub fn is_greedy(model: &Model, prompt: &[u32], new: &[u32]) -> bool {
    let sequence = [prompt, new].concat();
    let logits = model.logits(&sequence, &Adapter::none(model)).unwrap();
    let vocabulary = model.config().vocab_size;
    let rows = logits.as_slice::<f32>().chunks_exact(vocabulary);
    rows.skip(prompt.len() - 1).zip(new).all(|(logits, &token)| {
        let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let largest = logits.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        let slack = if in_f32(model) { 0.0 } else { tolerance(model, 0.0) as f32 / 2.0 * largest };
        logits[token as usize] >= best - slack
    })
}
