//! Continuous batching against generation of every prompt by itself.

mod batching;
mod common;
mod rounding;

use batching::{Request, is_alone, served};
use common::{Tiny, tokens};
use models::{Adapter, ContinuousBatch, GenerateOptions, Model, Prompt, PromptPrefix, Sampler};
use proptest::prelude::*;

const VOCABULARY: usize = 96;

fn model(seed: u64) -> Model {
    let folder = tempfile::tempdir().unwrap();
    Tiny::new(seed).write(folder.path());
    Model::open(folder.path()).unwrap()
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let request = (0usize..12, 1usize..40, 1usize..16);
    prop::collection::vec(request, 1..9).prop_map(|requests| {
        let request = |(number, (arrives, length, count)): (u64, (usize, usize, usize))| Request {
            arrives,
            prompt: tokens(number, length, VOCABULARY),
            tokens: count,
        };
        (0..).zip(requests).map(request).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whoever comes and goes when, with prompts in chunks of any size: everybody gets what they get
    /// alone.
    #[test]
    fn joining_and_leaving_change_nothing(
        requests in requests(),
        chunk in 1usize..50,
        seed in 0u64..1000,
    ) {
        let model = model(seed);
        let answers = served(&model, &requests, chunk);
        for (request, answer) in requests.iter().zip(answers) {
            prop_assert!(is_alone(&model, request, &answer));
        }
    }

    /// A prompt that begins like an earlier one continues from what is cached of that.
    #[test]
    fn prefixes_change_nothing(
        shared in 1usize..60,
        own in 1usize..20,
        chunk in 1usize..70,
        seed in 0u64..1000,
    ) {
        let model = model(seed);
        let mut batch = ContinuousBatch::new(&model, &Adapter::none(&model)).unwrap();
        let beginning = tokens(1, shared, VOCABULARY);
        let whole = [beginning.clone(), tokens(2, own, VOCABULARY)].concat();
        let mut first = Prompt::new(beginning);
        while !first.is_processed() {
            batch.process(&mut [&mut first], chunk).unwrap();
        }
        let prefix = first.prefix().unwrap();
        prop_assert_eq!(prefix.tokens(), shared);
        prop_assert!(prefix.bytes() > 0);
        let mut second = Prompt::after(prefix, whole.clone());
        prop_assert_eq!(second.processed(), shared);
        while !second.is_processed() {
            batch.process(&mut [&mut second], chunk).unwrap();
        }
        let request = Request { arrives: 0, prompt: whole, tokens: 6 };
        let greedy = Sampler::new(&GenerateOptions::default(), 0);
        let mut answer = vec![batch.join(&second, greedy).unwrap()];
        answer.extend((1..6).flat_map(|_| batch.step().unwrap()));
        prop_assert!(is_alone(&model, &request, &answer));
    }
}

#[test]
fn edges() {
    let model = model(3);
    let mut batch = ContinuousBatch::new(&model, &Adapter::none(&model)).unwrap();
    assert!(batch.is_empty() && batch.step().unwrap().is_empty());
    batch.leave(0).unwrap();
    batch.process(&mut [], 10).unwrap();
    let mut prompt = Prompt::new(vec![1, 2, 3]);
    let greedy = || Sampler::new(&GenerateOptions::default(), 0);
    batch.process(&mut [&mut prompt], 2).unwrap();
    let error = batch.join(&prompt, greedy()).unwrap_err().to_string();
    assert!(error.contains("expected all tokens processed, found 2 of 3"), "{error}");
    let error = batch.process(&mut [&mut Prompt::new(vec![1, 96])], 9).unwrap_err().to_string();
    assert!(error.contains("96"), "{error}");
    // A prefix of the whole prompt leaves nothing to sample after.
    batch.process(&mut [&mut prompt], 2).unwrap();
    let again = Prompt::after(prompt.prefix().unwrap(), vec![1, 2, 3]);
    assert_eq!(again.processed(), 0);
    assert_eq!(PromptPrefix::default().bytes(), 0);
}

/// Each sequence has random numbers of its own.
#[test]
fn samplers_do_not_depend_on_the_batch() {
    let model = model(5);
    let options = GenerateOptions { temperature: 1.0, seed: 9, ..Default::default() };
    let run = |numbers: &[usize]| -> Vec<Vec<u32>> {
        let mut batch = ContinuousBatch::new(&model, &Adapter::none(&model)).unwrap();
        let mut prompt = Prompt::new(tokens(4, 9, VOCABULARY));
        batch.process(&mut [&mut prompt], 9).unwrap();
        let join = |&number| vec![batch.join(&prompt, Sampler::new(&options, number)).unwrap()];
        let mut answers: Vec<Vec<u32>> = numbers.iter().map(join).collect();
        for _ in 0..8 {
            let tokens = batch.step().unwrap();
            answers.iter_mut().zip(tokens).for_each(|(answer, token)| answer.push(token));
        }
        answers
    };
    let three = run(&[0, 1, 2]);
    assert_eq!(three[1], run(&[1])[0]);
    assert_ne!(three[0], three[1]);
}
