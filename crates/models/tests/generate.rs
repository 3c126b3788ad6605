//! Generation against recomputing everything from scratch for each token.

mod common;
mod rounding;

use common::{Tiny, tokens};
use models::{Adapter, Error, FinishReason, GenerateOptions, Generator, Model};
use proptest::prelude::*;
use rounding::{in_f32, is_greedy};

/// Greedy continuation without any cache: the whole sequence again for each token.
fn from_scratch(model: &Model, prompt: &[u32], count: usize) -> Vec<u32> {
    let adapter = Adapter::none(model);
    let mut sequence = prompt.to_vec();
    for _ in 0..count {
        let logits = model.logits(&sequence, &adapter).unwrap();
        let last = logits.as_slice::<f32>().chunks(96).next_back().unwrap();
        let best = (0..96).max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap();
        sequence.push(best as u32);
    }
    sequence.split_off(prompt.len())
}

fn model(seed: u64) -> Model {
    let folder = tempfile::tempdir().unwrap();
    Tiny::new(seed).write(folder.path());
    Model::open(folder.path()).unwrap()
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens, ..Default::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Batches of any composition, cut into steps and caches of any size, give each prompt what it
    /// gets alone without a cache.
    #[test]
    fn batched_and_cached_is_single_and_recomputed(
        lengths in prop::collection::vec(1usize..12, 1..20),
        max_tokens in 1usize..8,
        prompt_tokens_per_step in 1usize..40,
        cache_rows in 1usize..20,
        seed in 0u64..1000,
    ) {
        let model = model(seed);
        let adapter = Adapter::none(&model);
        let prompts: Vec<Vec<u32>> =
            lengths.iter().zip(0..).map(|(&n, i)| tokens(seed + i, n, 96)).collect();
        let options = GenerateOptions {
            prompt_tokens_per_step,
            cache_bytes: cache_rows * model.cache_bytes(20),
            ..greedy(max_tokens)
        };
        let generator = Generator::new(&model, &adapter).unwrap();
        let completions = generator.generate(&prompts, &options).unwrap();
        prop_assert_eq!(completions.len(), prompts.len());
        for (prompt, completion) in prompts.iter().zip(completions) {
            prop_assert_eq!(completion.tokens.len(), max_tokens);
            prop_assert!(is_greedy(&model, prompt, &completion.tokens));
            prop_assert_eq!(completion.finish, FinishReason::Length);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Prompts of a few agents, each with a long beginning of its own that is processed once, in
    /// batches and steps of any size, beside some that share nothing.
    #[test]
    fn shared_beginnings_change_nothing(
        prompts in prop::collection::vec((0u64..4, 1usize..7), 6..24),
        lengths in prop::collection::vec(9usize..40, 3),
        prompt_tokens_per_step in 1usize..90,
        cache_rows in 4usize..24,
        seed in 0u64..1000,
    ) {
        let model = model(seed);
        let adapter = Adapter::none(&model);
        let prompt = |(i, &(agent, own)): (u64, &(u64, usize))| {
            let shared = lengths.get(agent as usize).map(|&length| tokens(agent, length, 96));
            [shared.unwrap_or_default(), tokens(100 + i, own, 96)].concat()
        };
        let prompts: Vec<Vec<u32>> = (0..).zip(&prompts).map(prompt).collect();
        let options = GenerateOptions {
            prompt_tokens_per_step,
            cache_bytes: cache_rows * model.cache_bytes(50),
            ..greedy(4)
        };
        let generator = Generator::new(&model, &adapter).unwrap();
        let completions = generator.generate(&prompts, &options).unwrap();
        for (prompt, completion) in prompts.iter().zip(completions) {
            prop_assert_eq!(completion.tokens.len(), 4);
            prop_assert!(is_greedy(&model, prompt, &completion.tokens));
        }
    }
}

/// Rows that stop early are dropped from the batch; the others must not notice.
#[test]
fn stopped_rows_leave_the_others_alone() {
    let model = model(1);
    let adapter = Adapter::none(&model);
    let generator = Generator::new(&model, &adapter).unwrap();
    let prompts: Vec<Vec<u32>> = (0..14).map(|i| tokens(i, 3 + i as usize % 5, 96)).collect();
    let free: Vec<Vec<u32>> = match in_f32(&model) {
        true => prompts.iter().map(|p| from_scratch(&model, p, 12)).collect(),
        // Only another run of the same batch rounds alike.
        false => {
            let free = generator.generate(&prompts, &greedy(12)).unwrap();
            free.into_iter().map(|completion| completion.tokens).collect()
        }
    };
    // Two tokens that occur here and there.
    let stop_ids = vec![free[2][3], free[5][7]];
    let options = GenerateOptions { stop_ids: stop_ids.clone(), ..greedy(12) };
    let mut streamed = vec![Vec::new(); prompts.len()];
    let completions = generator
        .stream(&prompts, &options, &mut |number, token| streamed[number].push(token))
        .unwrap();
    let mut stopped = 0;
    for ((completion, free), streamed) in completions.iter().zip(&free).zip(&streamed) {
        let end = free.iter().position(|token| stop_ids.contains(token));
        let expected = &free[..end.unwrap_or(free.len())];
        let finish = if end.is_some() { FinishReason::Stop } else { FinishReason::Length };
        assert_eq!((completion.tokens.as_slice(), completion.finish), (expected, finish));
        assert_eq!(streamed, expected);
        stopped += usize::from(end.is_some());
    }
    assert!((2..14).contains(&stopped), "the case must mix both kinds: {stopped} stopped");
}

#[test]
fn samples_depend_on_seed_and_number_only() {
    let model = model(2);
    let adapter = Adapter::none(&model);
    let generator = Generator::new(&model, &adapter).unwrap();
    let prompts = vec![tokens(3, 4, 96); 20];
    let options =
        GenerateOptions { temperature: 1.0, top_p: 0.95, top_k: 50, seed: 7, ..greedy(8) };
    let run = |prompts: &[Vec<u32>], options: &GenerateOptions| {
        generator.generate(prompts, options).unwrap()
    };
    let all = run(&prompts, &options);
    assert_eq!(all, run(&prompts, &options));
    assert_eq!(all[..3], run(&prompts[..3], &options));
    assert_ne!(all, run(&prompts, &GenerateOptions { seed: 8, ..options.clone() }));
    let first = &all[0];
    assert!(all.iter().any(|other| other != first), "every prompt has its own random numbers");
}

#[test]
fn edges() {
    let model = model(4);
    let adapter = Adapter::none(&model);
    let generator = Generator::new(&model, &adapter).unwrap();
    assert_eq!(generator.generate::<Vec<u32>>(&[], &greedy(3)).unwrap(), []);
    let nothing = generator.generate(&[[1, 2]], &greedy(0)).unwrap();
    assert_eq!((nothing[0].tokens.len(), nothing[0].finish), (0, FinishReason::Length));
    let error = generator.generate(&[vec![1], vec![]], &greedy(3)).unwrap_err();
    assert!(error.to_string().contains("prompt 1"), "{error}");
    let error = generator.generate(&[[1, 96]], &greedy(3)).unwrap_err();
    assert!(matches!(error, Error::Token { token: 96, .. }), "{error}");
}
