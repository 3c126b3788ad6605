//! One update of a rank-8 adapter on every linear layer of SmolLM2-135M, and of a model of each
//! family: tokens per second and MLX's peak memory.
//!
//! Criterion's "elements" are input tokens: `elem/s` is tokens per second. The model is fetched on the
//! first run.
//!
//! The rows are random tokens of the length of the demo's rows, the last 40 % of each trained. The
//! cost of an update depends on the tokens only through shared prefixes, which one benchmark has: 200
//! tokens in common, like a system prompt, before each row.

mod peak_memory;

use std::path::Path;

use criterion::measurement::Measurement;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lora_train::{Data, Dataset, Example, NumLayers, Start, TrainConfig, Trainer};
use models::{Model, Storage, WeightResidency};
use nightshift_benches::{Family, random_model, run};
use peak_memory::{PeakMemory, by_memory};

const ROWS: u32 = 16;
const LENGTHS: std::ops::Range<u32> = 80..240;
const TRAINED_SHARE: f64 = 0.4;

/// Tokens of a system prompt.
const PROMPT: u32 = 200;

/// Random rows that begin with `prompt` tokens in common, from a linear congruential generator.
fn rows(vocabulary: u32, prompt: u32) -> Vec<Example> {
    let mut state = 1u32;
    let mut draw = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((u64::from(state) * u64::from(below)) >> 32) as u32
    };
    let prompt: Vec<u32> = (0..prompt).map(|_| draw(vocabulary)).collect();
    let row = |_| {
        let length = LENGTHS.start + draw(LENGTHS.end - LENGTHS.start);
        let answer = prompt.len() + (f64::from(length) * (1.0 - TRAINED_SHARE)) as usize;
        let own = (0..length).map(|_| draw(vocabulary));
        let tokens: Vec<u32> = prompt.iter().copied().chain(own).collect();
        let end = tokens.len();
        Example::new(tokens, std::iter::once(answer..end).collect())
    };
    (0..ROWS).map(row).collect()
}

fn trainer(folder: &Path, prompt: u32) -> (Trainer, u64) {
    let model = fetch::demo_model(&mut |_| ()).expect("the demo model");
    let model = Model::open(model).expect("the demo model");
    let mut config = TrainConfig::default();
    config.num_layers = Some(NumLayers::All);
    config.batch_size = ROWS as usize;
    config.adapter_path = folder.to_owned();
    let rows = rows(model.config().vocab_size as u32, prompt);
    let train = Dataset::new("train", rows, config.max_seq_length).expect("rows");
    let tokens = train.processed_tokens() as u64;
    let data = Data { train, valid: None, retention: None };
    (Trainer::new(model, config, data, Start::Fresh).expect("a run"), tokens)
}

fn speed(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut group = criterion.benchmark_group("training update");
    for (name, prompt) in [
        ("SmolLM2-135M, rank 8, all layers", 0),
        ("SmolLM2-135M, rank 8, all layers, one system prompt", PROMPT),
    ] {
        let (mut trainer, tokens) = trainer(folder.path(), prompt);
        group.sample_size(10).throughput(Throughput::Elements(tokens));
        group.bench_function(name, |bencher| {
            bencher.iter(|| trainer.update().expect("an update"));
        });
    }
    group.finish();
}

fn memory(criterion: &mut Criterion<PeakMemory>) {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut trainer, _) = trainer(folder.path(), 0);
    let mut group = criterion.benchmark_group("training update, peak memory");
    group.bench_function("SmolLM2-135M, rank 8, all layers", |bencher| {
        bencher.iter_custom(|updates| {
            PeakMemory.start();
            (0..updates).for_each(|_| _ = trainer.update().expect("an update"));
            PeakMemory.end(()) * updates
        });
    });
    group.finish();
}

/// Four rows of 256 tokens.
fn families(criterion: &mut Criterion) {
    const ROWS: usize = 4;
    const LENGTH: usize = 256;
    let mut group = criterion.benchmark_group("training update by family");
    group.sample_size(10).throughput(Throughput::Elements((ROWS * LENGTH) as u64));
    for family in Family::ALL {
        let folder = tempfile::tempdir().expect("a folder");
        let dense = WeightResidency::Dequantized;
        let model = random_model(folder.path(), &family.shape(), Storage::Bf16, dense);
        let model = model.expect("a model");
        let (config, data) = run(&model, folder.path(), ROWS, LENGTH).expect("a run");
        let mut trainer = Trainer::new(model, config, data, Start::Fresh).expect("a run");
        group.bench_function(family.name(), |bencher| {
            bencher.iter(|| trainer.update().expect("an update"));
        });
    }
    group.finish();
}

criterion_group!(time, speed, families);
criterion_group!(name = space; config = by_memory(); targets = memory);
criterion_main!(time, space);
