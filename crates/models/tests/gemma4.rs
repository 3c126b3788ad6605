//! Gemma 4 against mlx-lm (`fixtures/golden/gemma4/variants.py`), and generation against recomputing
//! everything from scratch for each token.

use std::path::{Path, PathBuf};

use mlx_rs::Array;
use models::{Adapter, GenerateOptions, Generator, Model, Rows, WeightResidency};
use proptest::prelude::*;

const WINDOW: usize = 8;
const VOCABULARY: usize = 48;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/gemma4").join(name)
}

fn open(name: &str) -> Model {
    Model::open(fixture(name)).unwrap()
}

fn largest(array: &Array) -> f32 {
    array.abs().unwrap().max(None).unwrap().item_exact()
}

/// The largest difference from mlx-lm's logits of this variant, of the largest of them.
fn difference(model: &Model, name: &str, key: &str) -> f32 {
    let path = fixture(&format!("{name}.expected.safetensors"));
    let expected = Array::load_safetensors(path).unwrap();
    let tokens: Vec<u32> = expected["tokens"].to_vec_cast().unwrap();
    assert!(tokens.len() > 4 * WINDOW, "several windows");
    let logits = model.logits(&tokens, &Adapter::none(model)).unwrap();
    largest(&logits.subtract(&expected[key]).unwrap()) / largest(&expected[key])
}

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
    use WeightResidency::{Dequantized, Packed, Streamed};
    for (name, tolerance) in VARIANTS {
        for residency in [Packed, Dequantized, Streamed] {
            let model = Model::open_with(fixture(name), residency).unwrap();
            let apart = difference(&model, name, "logits");
            println!("{name} {residency:?}: {apart:.1e}");
            assert!(apart <= tolerance, "{name} {residency:?}: {apart:e}");
        }
    }
}

/// A CPU computes in f32 whatever the weights are. mlx-lm's own logits in f32 are as far from those
/// that it computes in bf16, which keeps three digits of each step.
#[test]
fn logits_in_bf16_are_far_from_those_in_f32() {
    let apart = difference(&open("dense-bf16"), "dense-bf16", "logits_bf16");
    println!("{apart:.1e}");
    assert!((1e-3..5e-2).contains(&apart), "{apart:e}");
}

#[test]
fn rows_laid_end_to_end_do_not_see_each_other() {
    for name in ["dense", "separate", "shared", "experts"] {
        let model = open(name);
        let adapter = Adapter::none(&model);
        let rows: Vec<Vec<u32>> =
            [1, WINDOW, 3, 4 * WINDOW + 1, WINDOW + 1].iter().map(|&n| tokens(n, n)).collect();
        let layout = Rows::new(rows.iter().map(Vec::len).collect::<Vec<_>>()).unwrap();
        let together = model.hidden(&rows.concat(), &layout, &adapter).unwrap();
        let alone: Vec<Array> = (rows.iter())
            .map(|row| model.hidden(row, &Rows::new([row.len()]).unwrap(), &adapter).unwrap())
            .collect();
        let alone = mlx_rs::ops::concatenate(&alone, 1).unwrap();
        let apart = largest(&together.subtract(&alone).unwrap()) / largest(&alone);
        // Products of other shapes round otherwise.
        assert!(apart < 1e-5, "{name}: {apart:e}");
    }
}

/// Some tokens, others for each number.
fn tokens(number: usize, count: usize) -> Vec<u32> {
    (0..count).map(|i| ((7 * i * i + 13 * number + 5 * i) % VOCABULARY) as u32).collect()
}

/// Greedy continuation without any cache: the whole sequence again for each token.
fn from_scratch(model: &Model, prompt: &[u32], count: usize) -> Vec<u32> {
    let adapter = Adapter::none(model);
    let mut sequence = prompt.to_vec();
    for _ in 0..count {
        let logits = model.logits(&sequence, &adapter).unwrap();
        let last = logits.as_slice::<f32>().chunks(VOCABULARY).next_back().unwrap();
        let best = (0..VOCABULARY).max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap();
        sequence.push(best as u32);
    }
    sequence.split_off(prompt.len())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    /// Prompts within the window, at its edge and beyond, in batches of any composition: each gets
    /// what it gets alone without a cache.
    #[test]
    fn batched_and_cached_is_single_and_recomputed(
        lengths in prop::collection::vec(1usize..3 * WINDOW, 1..7),
        max_tokens in 1usize..WINDOW + 4,
        prompt_tokens_per_step in 1usize..40,
        cache_rows in 1usize..7,
        number in 0usize..100,
    ) {
        for name in ["dense", "separate", "shared", "experts"] {
            let model = open(name);
            let adapter = Adapter::none(&model);
            let prompts: Vec<Vec<u32>> =
                lengths.iter().zip(number..).map(|(&n, number)| tokens(number, n)).collect();
            let options = GenerateOptions {
                max_tokens,
                prompt_tokens_per_step,
                cache_bytes: cache_rows * model.cache_bytes(3 * WINDOW),
                ..Default::default()
            };
            let generator = Generator::new(&model, &adapter).unwrap();
            let completions = generator.generate(&prompts, &options).unwrap();
            for (prompt, completion) in prompts.iter().zip(completions) {
                let expected = from_scratch(&model, prompt, max_tokens);
                prop_assert_eq!(completion.tokens, expected, "{} after {:?}", name, prompt);
            }
        }
    }
}

/// Nine prompts of two agents, whose beginnings are longer than the window and processed once.
#[test]
fn shared_beginnings_change_nothing() {
    for name in ["dense", "separate", "shared", "experts"] {
        let model = open(name);
        let adapter = Adapter::none(&model);
        let beginnings = [tokens(1, WINDOW + 3), tokens(2, 3 * WINDOW)];
        let prompt = |i: usize| [&beginnings[i % 2][..], &tokens(10 + i, 1 + 2 * i)].concat();
        let prompts: Vec<Vec<u32>> = (0..9).map(prompt).collect();
        let options = GenerateOptions { max_tokens: 5, ..Default::default() };
        let generator = Generator::new(&model, &adapter).unwrap();
        let completions = generator.generate(&prompts, &options).unwrap();
        for (prompt, completion) in prompts.iter().zip(completions) {
            assert_eq!(completion.tokens, from_scratch(&model, prompt, 5), "{name}: {prompt:?}");
        }
    }
}

/// Two of three layers look back through a window; the third has one head of 16 for keys and values.
#[test]
fn caches_of_layers_with_a_window_stop_growing() {
    let model = open("dense");
    let (short, long) = (model.cache_bytes(10 * WINDOW), model.cache_bytes(20 * WINDOW));
    assert_eq!(long - short, 10 * WINDOW * 2 * 16 * size_of::<f32>());
}
