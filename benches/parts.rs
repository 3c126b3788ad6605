//! The parts of a training update, on synthetic Llamas: one layer forward by the length of the row
//! and by where its weights are, and the loss head by the size of the vocabulary.
//!
//! `elem/s` reads as tokens per second.

use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lora_train::{Data, Dataset, Example, NumLayers, Start, TrainConfig, Trainer};
use mlx_rs::transforms::eval;
use models::{LayerAdapter, Model, Rows, Storage, WeightResidency, synthesize};
use serde_json::json;

/// A Llama of random weights at 4 bits, its layers still on disk.
fn llama(folder: &Path, layers: usize, hidden: usize, vocabulary: usize) -> Model {
    let shape = json!({
        "model_type": "llama", "hidden_size": hidden, "intermediate_size": 3 * hidden,
        "num_hidden_layers": layers, "num_attention_heads": hidden / 64,
        "num_key_value_heads": hidden / 128, "vocab_size": vocabulary, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": true,
    });
    let config = folder.join("shape.json");
    std::fs::write(&config, shape.to_string()).expect("a file");
    let storage = Storage::Packed { bits: 4, group_size: 64 };
    synthesize(&config, folder, storage, 0, &mut |_, _| ()).expect("a checkpoint");
    Model::open_with(folder, WeightResidency::Streamed).expect("a model")
}

/// The first layer of `model` applied to one row.
fn apply(model: &Model, length: usize) {
    let tokens: Vec<u32> = (0..length as u32).map(|i| i * 7 % 256).collect();
    let rows = Rows::new([length]).expect("a row");
    let (flow, batch) =
        model.embed(&tokens, &rows, &LayerAdapter::default()).expect("hidden states");
    let layer = &model.layers()[0];
    let flow = layer.forward(&flow, &batch, &LayerAdapter::default()).expect("hidden states");
    eval([&flow.hidden]).expect("hidden states");
}

fn layer(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let streamed = llama(folder.path(), 1, 1024, 256);
    let held = |how| streamed.with_weights(WeightResidency::Packed, &[how]).expect("a model");
    let resident = held(WeightResidency::Dequantized);
    let mut group = criterion.benchmark_group("a layer by length of the row");
    group.sample_size(10);
    for length in [64, 256, 1024, 2048] {
        group.throughput(Throughput::Elements(length as u64));
        group.bench_function(BenchmarkId::from_parameter(length), |bencher| {
            bencher.iter(|| apply(&resident, length));
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("a layer of 256 tokens by where its weights are");
    group.sample_size(10).throughput(Throughput::Elements(256));
    use WeightResidency::{Dequantized, Packed, Streamed};
    for how in [Dequantized, Packed, Streamed] {
        let model = held(how);
        group.bench_function(format!("{how:?}"), |bencher| {
            bencher.iter(|| apply(&model, 256));
        });
    }
    group.finish();
}

/// Updates of a model that is nearly nothing but its output matrix.
fn head(criterion: &mut Criterion) {
    const TOKENS: u32 = 256;
    let mut group = criterion.benchmark_group("an update of 256 tokens by vocabulary");
    group.sample_size(10).throughput(Throughput::Elements(u64::from(TOKENS)));
    for vocabulary in [16_384, 65_536, 262_144] {
        let folder = tempfile::tempdir().expect("a folder");
        let config = TrainConfig {
            num_layers: Some(NumLayers::All),
            batch_size: 1,
            adapter_path: folder.path().join("run"),
            ..TrainConfig::default()
        };
        let row = Example {
            tokens: (0..=TOKENS).map(|i| i * 61 % 16_384).collect(),
            trained: vec![1..TOKENS as usize + 1],
        };
        let train = Dataset::new("train", [row], config.max_seq_length).expect("rows");
        let model = llama(folder.path(), 1, 256, vocabulary);
        let data = Data { train, valid: None };
        let mut trainer = Trainer::new(model, config, data, Start::Afresh).expect("a run");
        group.bench_function(BenchmarkId::from_parameter(vocabulary), |bencher| {
            bencher.iter(|| trainer.update().expect("an update"));
        });
    }
    group.finish();
}

criterion_group!(benches, layer, head);
criterion_main!(benches);
