//! What every family's tiny checkpoints are asked: whether their logits are mlx-lm's, whether rows
//! stay apart, whether generation with caches is what recomputing everything gives.

#[path = "../batching/mod.rs"]
mod batching;

use std::ops::Range;
use std::path::{Path, PathBuf};

use batching::{Request, is_alone, served};
use mlx_rs::{Array, Dtype};
use models::layers::Rows;
use models::{Adapter, GenerateOptions, Generator, Model, WeightResidency};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::rounding;

/// Tokens that the checkpoints know.
const VOCABULARY: usize = 48;

/// Root mean square of the error of logits in 16 bits, of that of the logits: mlx-lm's own, in bf16, is 0.014
/// (Gemma 4, separate) to 0.27 (Qwen3.5, experts-4bit, whose f32 scales are rounded too and whose tokens then
/// choose other experts); half as much again is allowed. Whether 16 bits lose more than they must,
/// `fixtures/golden/precision.py` tells.
pub const IN_16_BITS: f32 = 0.4;

/// The golden files of a family.
pub struct Family {
    /// Their folder below `fixtures/golden`.
    pub folder: &'static str,
    /// The checkpoints in f32.
    pub f32: &'static [&'static str],
    /// The length at which the family's layers begin to work otherwise.
    pub edge: usize,
}

impl Family {
    pub fn fixture(&self, name: &str) -> PathBuf {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden");
        golden.join(self.folder).join(name)
    }

    pub fn open(&self, name: &str) -> Model {
        Model::open(self.fixture(name)).unwrap()
    }

    /// The largest difference from mlx-lm's logits of this variant, of the largest of them; in 16 bits the
    /// root mean square of all differences, of that of the logits.
    pub fn difference(&self, model: &Model, name: &str, key: &str) -> f32 {
        let path = self.fixture(&format!("{name}.expected.safetensors"));
        let expected = Array::load_safetensors(path).unwrap();
        let tokens: Vec<u32> = expected["tokens"].to_vec_cast().unwrap();
        assert!(tokens.len() > 2 * self.edge, "well beyond the edge");
        let logits = model.logits(&tokens, &Adapter::none(model)).unwrap();
        let apart = logits.subtract(&expected[key]).unwrap();
        if rounding::in_f32(model) {
            return largest(&apart) / largest(&expected[key]);
        }
        // The worst of them may be anywhere: mlx-lm's own in bf16 are up to 1.05 of the largest off.
        root_mean_square(&apart) / root_mean_square(&expected[key])
    }

    /// Wherever the weights are.
    pub fn logits_are_mlx_lms(&self, variants: &[(&str, f32)]) {
        use WeightResidency::{Dequantized, Packed, Streamed};
        for &(name, tolerance) in variants {
            for residency in [Packed, Dequantized, Streamed] {
                let model = Model::open_with(self.fixture(name), residency).unwrap();
                let apart = self.difference(&model, name, "logits");
                println!("{name} {residency:?}: {apart:.1e}");
                let tolerance = if rounding::in_f32(&model) { tolerance } else { IN_16_BITS };
                assert!(apart <= tolerance, "{name} {residency:?}: {apart:e}");
            }
        }
    }

    pub fn rows_do_not_see_each_other(&self) {
        let edge = self.edge;
        for name in self.f32 {
            let model = self.open(name);
            let adapter = Adapter::none(&model);
            let rows: Vec<Vec<u32>> =
                [1, edge, 3, 4 * edge + 1, edge + 1].iter().map(|&n| tokens(n, n)).collect();
            let layout = Rows::new(rows.iter().map(Vec::len).collect::<Vec<_>>()).unwrap();
            let together = model.hidden(&rows.concat(), &layout, &adapter).unwrap();
            let alone: Vec<Array> = (rows.iter())
                .map(|row| model.hidden(row, &Rows::new([row.len()]).unwrap(), &adapter).unwrap())
                .collect();
            let alone = mlx_rs::ops::concatenate(&alone, 1).unwrap();
            let apart = largest(&together.subtract(&alone).unwrap()) / largest(&alone);
            // Products of other shapes round otherwise.
            let most = rounding::tolerance(&model, 1e-5) as f32;
            assert!(apart < most, "{name}: {apart:e}");
        }
    }

    /// Random prompts of these lengths, in batches of any composition: each gets what it gets alone without a cache. The
    /// caches of up to six rows with so many tokens fit.
    pub fn batched_is_single(&self, lengths: Range<usize>, new: Range<usize>, cached: usize) {
        let inputs = (vec(lengths, 1..7), new, 1usize..40, 1usize..7, 0usize..100);
        proptest!(ProptestConfig::with_cases(4), |((lengths, max_tokens, step, rows, number) in inputs)| {
            for name in self.f32 {
                let prompts = lengths.iter().zip(number..).map(|(&n, number)| tokens(number, n));
                let model = self.open(name);
                let options = GenerateOptions {
                    max_tokens,
                    prompt_tokens_per_step: step,
                    cache_bytes: rows * model.cache_bytes(cached),
                    ..Default::default()
                };
                check(&model, &prompts.collect::<Vec<_>>(), &options, name);
            }
        });
    }

    /// In a continuous batch, with prompts and chunks on both sides of the edge.
    pub fn joining_and_leaving_change_nothing(&self) {
        let edge = self.edge;
        for name in self.f32 {
            let model = self.open(name);
            let lengths = [3 * edge, 2, edge, edge - 1, 1, 2 * edge + 3, edge + 1, 5];
            let request = |(number, length): (usize, usize)| Request {
                arrives: number * 2 % 7,
                prompt: tokens(number, length),
                tokens: 1 + (number * 7 + edge) % (2 * edge),
            };
            let requests: Vec<Request> = lengths.into_iter().enumerate().map(request).collect();
            for chunk in [3, edge, 10 * edge] {
                let answers = served(&model, &requests, chunk);
                for (request, answer) in requests.iter().zip(answers) {
                    assert!(
                        is_alone(&model, request, &answer),
                        "{name}, chunks of {chunk}: {request:?}"
                    );
                }
            }
        }
    }

    /// Nine prompts of two agents, whose beginnings are longer than the edge and processed once.
    pub fn shared_beginnings_change_nothing(&self) {
        let beginnings = [tokens(1, self.edge + 3), tokens(2, 3 * self.edge)];
        let prompt = |i: usize| [&beginnings[i % 2][..], &tokens(10 + i, 1 + 2 * i)].concat();
        let prompts: Vec<Vec<u32>> = (0..9).map(prompt).collect();
        let options = GenerateOptions { max_tokens: 5, ..Default::default() };
        for name in self.f32 {
            check(&self.open(name), &prompts, &options, name);
        }
    }
}

fn check(model: &Model, prompts: &[Vec<u32>], options: &GenerateOptions, name: &str) {
    let adapter = Adapter::none(model);
    let generator = Generator::new(model, &adapter).unwrap();
    let completions = generator.generate(prompts, options).unwrap();
    for (prompt, completion) in prompts.iter().zip(completions) {
        assert_eq!(completion.tokens.len(), options.max_tokens, "{name}");
        assert!(rounding::is_greedy(model, prompt, &completion.tokens), "{name} after {prompt:?}");
    }
}

/// Some tokens, others for each number.
fn tokens(number: usize, count: usize) -> Vec<u32> {
    (0..count).map(|i| ((7 * i * i + 13 * number + 5 * i) % VOCABULARY) as u32).collect()
}

fn root_mean_square(array: &Array) -> f32 {
    array.square().unwrap().mean(None).unwrap().sqrt().unwrap().item_exact()
}

fn largest(array: &Array) -> f32 {
    array.as_dtype(Dtype::Float32).unwrap().abs().unwrap().max(None).unwrap().item_exact()
}
