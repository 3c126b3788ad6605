//! The parts of a training update for each family: one layer forward, by length of the row and by
//! residency of its weights, and the output head by size of the vocabulary.
//!
//! `elem/s` is tokens per second.

use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lora_train::{Start, Trainer};
use mlx_rs::transforms::eval;
use models::layers::{LayerAdapter, Rows};
use models::{Model, Storage, WeightResidency};
use nightshift_benches::{Family, random_model, run};

/// A layer of each kind: family, name, index.
const LAYERS: [(Family, &str, usize); 5] = [
    (Family::Llama, "attention", 0),
    (Family::Gemma4, "window", 0),
    (Family::Gemma4, "everything", 5),
    (Family::Qwen35, "gated delta rule", 0),
    (Family::Qwen35, "attention", 3),
];

/// A model at 4 bits, with its layers on disk and the keys of `change` in its `config.json`.
fn model(family: Family, folder: &Path, change: serde_json::Value) -> Model {
    let mut shape = family.shape();
    for (key, value) in change.as_object().into_iter().flatten() {
        shape[key] = value.clone();
    }
    let storage = Storage::Packed { bits: 4, group_size: 32 };
    random_model(folder, &shape, storage, WeightResidency::Streamed).expect("a model")
}

/// One layer of `model` applied to one row.
fn apply(model: &Model, layer: usize, length: usize) {
    let tokens: Vec<u32> = (0..length as u32).map(|i| i * 7 % 256).collect();
    let rows = Rows::new([length]).expect("a row");
    let (flow, batch) =
        model.embed(&tokens, &rows, &LayerAdapter::default()).expect("hidden states");
    let flow = model.layers()[layer].forward(&flow, &batch, &LayerAdapter::default());
    eval([&flow.expect("hidden states").hidden]).expect("hidden states");
}

fn layers(criterion: &mut Criterion) {
    use WeightResidency::{Dequantized, Packed, Streamed};
    for (family, kind, layer) in LAYERS {
        let folder = tempfile::tempdir().expect("a folder");
        let streamed = model(family, folder.path(), serde_json::Value::Null);
        let held = |how| {
            let mut layers = vec![Streamed; streamed.layers().len()];
            layers[layer] = how;
            streamed.with_weights(Packed, &layers).expect("a model")
        };
        let name = format!("{}, {kind}", family.name());
        let resident = held(Dequantized);
        let mut group = criterion.benchmark_group(format!("{name}: a layer by length of the row"));
        group.sample_size(10);
        for length in [64, 256, 1024, 2048] {
            group.throughput(Throughput::Elements(length as u64));
            group.bench_function(BenchmarkId::from_parameter(length), |bencher| {
                bencher.iter(|| apply(&resident, layer, length));
            });
        }
        group.finish();
        let group = format!("{name}: a layer of 256 tokens by where its weights are");
        let mut group = criterion.benchmark_group(group);
        group.sample_size(10).throughput(Throughput::Elements(256));
        for how in [Dequantized, Packed, Streamed] {
            let model = held(how);
            group.bench_function(format!("{how:?}"), |bencher| {
                bencher.iter(|| apply(&model, layer, 256));
            });
        }
        group.finish();
    }
}

/// Updates of a model with one layer, so that the output matrix dominates.
fn heads(criterion: &mut Criterion) {
    const TOKENS: usize = 256;
    for family in Family::ALL {
        let group = format!("{}: an update of 256 tokens by vocabulary", family.name());
        let mut group = criterion.benchmark_group(group);
        group.sample_size(10).throughput(Throughput::Elements(TOKENS as u64));
        for vocabulary in [16_384, 65_536, 262_144] {
            let folder = tempfile::tempdir().expect("a folder");
            let change = serde_json::json!({ "num_hidden_layers": 1, "vocab_size": vocabulary });
            let model = model(family, folder.path(), change);
            let (config, data) = run(&model, folder.path(), 1, TOKENS).expect("a run");
            let mut trainer = Trainer::new(model, config, data, Start::Fresh).expect("a run");
            group.bench_function(BenchmarkId::from_parameter(vocabulary), |bencher| {
                bencher.iter(|| trainer.update().expect("an update"));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, layers, heads);
criterion_main!(benches);
