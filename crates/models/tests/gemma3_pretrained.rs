//! Gemma 3 270M, from a GGUF file of four block formats, against mlx-lm with weights that llama.cpp's Python
//! package dequantized (`fixtures/golden/gemma3/pretrained.py`).

mod pretrained;
mod rounding;

use std::path::PathBuf;

use mlx_rs::Array;
use mlx_rs::ops::indexing::IndexOp;
use models::layers::Rows;
use models::{Adapter, GenerateOptions, Model};
use pretrained::{Greedy, answers, is_slow};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    logits: Logits,
    long: Long,
    greedy: Vec<Greedy>,
}

#[derive(Deserialize)]
struct Logits {
    tokens: Vec<u32>,
    positions: Vec<Position>,
}

#[derive(Deserialize)]
struct Long {
    tokens: Vec<u32>,
    last: Position,
}

#[derive(Deserialize)]
struct Position {
    ids: Vec<usize>,
    logits: Vec<f64>,
    log_sum_exp: f64,
}

fn golden() -> Golden {
    pretrained::golden("gemma3/pretrained.json")
}

fn model() -> Option<PathBuf> {
    fetch::if_reachable(fetch::gemma_test_model(&mut |_| {})).unwrap()
}

/// The logits `[vocabulary]` of the last of these tokens.
fn last_logits(model: &Model, tokens: &[u32]) -> Array {
    let adapter = Adapter::none(model);
    let hidden = model.hidden(tokens, &Rows::new([tokens.len()]).unwrap(), &adapter).unwrap();
    let last = hidden.index((.., -1, ..));
    model.head().logits(&last, adapter.embeddings()).unwrap().index(0)
}

/// The largest difference, of the largest logit.
fn apart(logits: &[f32], expected: &Position) -> f64 {
    let largest = expected.logits.iter().fold(0f64, |largest, x| largest.max(x.abs()));
    let pairs = expected.ids.iter().zip(&expected.logits);
    let each = pairs.map(|(&id, expected)| (f64::from(logits[id]) - expected).abs());
    let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
    each.fold((sum.ln() - expected.log_sum_exp).abs(), f64::max) / largest
}

#[test]
fn logits_are_those_of_the_dequantized_weights() {
    let Some(path) = model() else { return };
    let golden = golden();
    let model = Model::open(path).unwrap();
    // Packed products take seconds a token on a CPU.
    let count = if model.computes_packed() { 4 } else { golden.logits.tokens.len() };
    let logits = model.logits(&golden.logits.tokens[..count], &Adapter::none(&model)).unwrap();
    let rows = logits.as_slice::<f32>().chunks_exact(model.config().vocab_size);
    let pairs = rows.zip(&golden.logits.positions);
    let found = pairs.map(|(row, expected)| apart(row, expected)).fold(0f64, f64::max);
    println!("{found:.1e}");
    // 18 layers of f32 rounding.
    assert!(found <= rounding::tolerance(&model, 1e-4), "{found:e}");
}

/// 701 tokens, of which a sliding layer sees 512.
#[test]
fn logits_beyond_the_window_are_too() {
    let Some(path) = model() else { return };
    let Long { tokens, last } = golden().long;
    let model = Model::open(path).unwrap();
    if is_slow(&model) {
        return;
    }
    let found = apart(last_logits(&model, &tokens).as_slice::<f32>(), &last);
    println!("{found:.1e}");
    assert!(found <= 1e-4, "{found:e}");
}

#[test]
fn greedy_text_is_the_same() {
    let Some(path) = model() else { return };
    let golden = golden().greedy;
    let model = Model::open(path).unwrap();
    if is_slow(&model) {
        return;
    }
    let options = GenerateOptions { max_tokens: golden[0].new.len(), ..Default::default() };
    for (completion, golden) in answers(&model, &golden, &options).iter().zip(&golden) {
        assert_eq!(completion.tokens, golden.new, "after {:?}", golden.prompt);
    }
}
