//! SmolLM2 against the float64 program in `fixtures/golden/llama/`.

mod pretrained;
mod rounding;

use std::path::PathBuf;

use models::{Adapter, FinishReason, GenerateOptions, Model};
use pretrained::{Greedy, answers, is_slow};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    logits: Logits,
    greedy: Vec<Greedy>,
}

#[derive(Deserialize)]
struct Logits {
    tokens: Vec<u32>,
    positions: Vec<Position>,
}

#[derive(Deserialize)]
struct Position {
    ids: Vec<usize>,
    logits: Vec<f64>,
    mean: f64,
    mean_square: f64,
    log_sum_exp: f64,
}

fn golden() -> Golden {
    pretrained::golden("llama/smollm2.json")
}

fn model() -> Option<PathBuf> {
    fetch::if_reachable(fetch::demo_model(&mut |_| {})).unwrap()
}

#[test]
fn logits_agree_to_f32() {
    let Some(path) = model() else { return };
    let golden = golden().logits;
    let model = Model::open(path).unwrap();
    // Packed products take seconds a token on a CPU.
    let tokens = if model.computes_packed() { 4 } else { golden.tokens.len() };
    let logits = model.logits(&golden.tokens[..tokens], &Adapter::none(&model)).unwrap();
    assert_eq!(logits.shape(), [tokens as i32, 49_152]);
    let logits = logits.as_slice::<f32>();
    let mut worst = 0f64;
    for (row, expected) in logits.chunks(49_152).zip(&golden.positions) {
        for (&id, expected) in expected.ids.iter().zip(&expected.logits) {
            worst = worst.max((f64::from(row[id]) - expected).abs());
        }
        let row = || row.iter().map(|&x| f64::from(x));
        let mean = row().sum::<f64>() / 49_152.0;
        let mean_square = row().map(|x| x * x).sum::<f64>() / 49_152.0;
        let log_sum_exp = row().map(f64::exp).sum::<f64>().ln();
        worst = worst.max((mean - expected.mean).abs());
        worst = worst.max((mean_square.sqrt() - expected.mean_square.sqrt()).abs());
        worst = worst.max((log_sum_exp - expected.log_sum_exp).abs());
    }
    eprintln!("largest difference {worst:.2e}");
    // 30 layers of f32 rounding on logits of up to 20.
    assert!(worst <= 20.0 * rounding::tolerance(&model, 1e-4), "{worst}");
}

/// Three prompts of different lengths in one batch, against a program that recomputes nothing
/// and batches nothing.
#[test]
fn greedy_text_is_the_same() {
    let Some(path) = model() else { return };
    let golden = golden().greedy;
    let model = Model::open(path).unwrap();
    if is_slow(&model) {
        return;
    }
    let options = GenerateOptions { max_tokens: 24, stop_ids: vec![2], ..Default::default() };
    for (completion, golden) in answers(&model, &golden, &options).iter().zip(&golden) {
        let (expected, finish) = match golden.new.as_slice() {
            [tokens @ .., 2] => (tokens, FinishReason::Stop),
            tokens => (tokens, FinishReason::Length),
        };
        assert_eq!(completion.tokens, expected);
        assert_eq!(completion.finish, finish);
    }
}
