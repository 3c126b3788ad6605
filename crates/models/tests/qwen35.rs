//! Qwen3.5 against mlx-lm (`fixtures/golden/qwen35/variants.py`), and generation against recomputing
//! everything from scratch for each token.

use std::path::{Path, PathBuf};

use mlx_rs::Array;
use models::{Adapter, GenerateOptions, Generator, Model, Rows, WeightResidency};
use proptest::prelude::*;

/// The longest chunk of the gated delta rule.
const CHUNK: usize = 32;
const VOCABULARY: usize = 48;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/qwen35").join(name)
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
    assert!(tokens.len() > 2 * CHUNK, "several chunks");
    let logits = model.logits(&tokens, &Adapter::none(model)).unwrap();
    largest(&logits.subtract(&expected[key]).unwrap()) / largest(&expected[key])
}

/// f32 in another order; weights in 4 bits are dequantized here and multiplied packed there.
const VARIANTS: [(&str, f32); 5] =
    [("untied", 2e-4), ("untied-hf", 2e-4), ("tied", 2e-4), ("unequal", 2e-4), ("tied-4bit", 1e-3)];
const F32: [&str; 3] = ["untied", "tied", "unequal"];

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

#[test]
fn rows_laid_end_to_end_do_not_see_each_other() {
    for name in F32 {
        let model = open(name);
        let adapter = Adapter::none(&model);
        let rows: Vec<Vec<u32>> =
            [1, CHUNK, 3, 2 * CHUNK + 1, 2].iter().map(|&n| tokens(n, n)).collect();
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

    /// Prompts shorter than the convolution, of one chunk and of several, in batches of any composition: each gets
    /// what it gets alone without a cache.
    #[test]
    fn batched_and_cached_is_single_and_recomputed(
        lengths in prop::collection::vec(1usize..2 * CHUNK + 2, 1..7),
        max_tokens in 1usize..6,
        prompt_tokens_per_step in 1usize..40,
        cache_rows in 1usize..7,
        number in 0usize..100,
    ) {
        for name in F32 {
            let model = open(name);
            let adapter = Adapter::none(&model);
            let prompts: Vec<Vec<u32>> =
                lengths.iter().zip(number..).map(|(&n, number)| tokens(number, n)).collect();
            let options = GenerateOptions {
                max_tokens,
                prompt_tokens_per_step,
                cache_bytes: cache_rows * model.cache_bytes(0),
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

/// Nine prompts of two agents, whose beginnings are processed once.
#[test]
fn shared_beginnings_change_nothing() {
    for name in F32 {
        let model = open(name);
        let adapter = Adapter::none(&model);
        let beginnings = [tokens(1, CHUNK + 3), tokens(2, 2 * CHUNK)];
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
