//! Decoding with SmolLM2-135M: new tokens per second by batch size, and MLX's peak memory.
//!
//! Every prompt has 48 tokens and gets 16 new ones. `elem/s` is new tokens per second, with the time
//! of the prompts included. The model is fetched on the first run. The largest batch takes minutes;
//! `cargo bench --bench decoding -- prompts/8` runs a single one.

mod peak_memory;

use criterion::measurement::Measurement;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use models::{Adapter, GenerateOptions, Generator, Model};
use peak_memory::{PeakMemory, by_memory};

const PROMPT: u32 = 48;
const NEW: usize = 16;
const BATCHES: [u32; 4] = [1, 8, 32, 128];

/// One answer to each of `batch` prompts.
fn decode(generator: &Generator, batch: u32) {
    let prompts: Vec<Vec<u32>> =
        (0..batch).map(|row| (0..PROMPT).map(|i| 1000 + 31 * i + row).collect()).collect();
    let options = GenerateOptions { max_tokens: NEW, ..Default::default() };
    let completions = generator.generate(&prompts, &options).expect("answers");
    assert!(completions.iter().all(|completion| completion.tokens.len() == NEW));
}

fn model() -> Model {
    let path = fetch::demo_model(&mut |_| ()).expect("the demo model");
    Model::open(path).expect("the demo model")
}

fn speed(criterion: &mut Criterion) {
    let model = model();
    let adapter = Adapter::none(&model);
    let generator = Generator::new(&model, &adapter).expect("a generator");
    let mut group = criterion.benchmark_group("decoding");
    group.sample_size(10);
    for batch in BATCHES {
        group.throughput(Throughput::Elements(u64::from(batch) * NEW as u64));
        group.bench_function(BenchmarkId::new("prompts", batch), |bencher| {
            bencher.iter(|| decode(&generator, batch));
        });
    }
    group.finish();
}

fn memory(criterion: &mut Criterion<PeakMemory>) {
    let model = model();
    let adapter = Adapter::none(&model);
    let generator = Generator::new(&model, &adapter).expect("a generator");
    let mut group = criterion.benchmark_group("decoding, peak memory");
    for batch in BATCHES {
        group.bench_function(BenchmarkId::new("prompts", batch), |bencher| {
            bencher.iter_custom(|runs| {
                PeakMemory.start();
                (0..runs).for_each(|_| decode(&generator, batch));
                PeakMemory.end(()) * runs
            });
        });
    }
    group.finish();
}

criterion_group!(time, speed);
criterion_group!(name = space; config = by_memory(); targets = memory);
criterion_main!(time, space);
