//! Trains a Gemma 4 and a Qwen3.5 of the same number of weights, shaped as the 31B and the 27B are
//! at an eighth of their width, on the same rows: tokens per second, and the most memory MLX holds.
//!
//! ```sh
//! cargo run --release -p nightshift-benches --example families -- [ROWS LENGTH]
//! ```

use std::path::Path;
use std::time::Instant;

use lora_train::{Data, Dataset, Example, NumLayers, Start, TrainConfig, Trainer};
use mlx_rs::memory;
use models::{Model, Storage, WeightResidency, synthesize};
use serde_json::{Value, json};

const VOCABULARY: u32 = 32_768;
const UPDATES: usize = 5;

fn gemma() -> Value {
    json!({
        "model_type": "gemma4_text", "vocab_size": VOCABULARY,
        "hidden_size": 672, "num_hidden_layers": 12, "intermediate_size": 2688,
        "num_attention_heads": 4, "num_key_value_heads": 2, "num_global_key_value_heads": 1,
        "head_dim": 256, "global_head_dim": 512, "sliding_window": 1024,
        "sliding_window_pattern": 6, "attention_k_eq_v": true, "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 0,
    })
}

/// With an MLP as wide as makes the same number of weights.
fn qwen() -> Value {
    json!({
        "model_type": "qwen3_5_text", "vocab_size": VOCABULARY, "tie_word_embeddings": true,
        "hidden_size": 640, "num_hidden_layers": 16, "intermediate_size": 2087,
        "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 256,
        "linear_num_key_heads": 2, "linear_num_value_heads": 6,
        "linear_key_head_dim": 128, "linear_value_head_dim": 128,
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = std::env::args().skip(1).map(|word| word.parse::<usize>());
    let (rows, length) = match arguments.collect::<Result<Vec<_>, _>>()?.as_slice() {
        [] => (8, 512),
        &[rows, length] => (rows, length),
        _ => return Err("expected ROWS LENGTH".into()),
    };
    println!("{UPDATES} updates of {rows} rows of {length} tokens, rank 8 on all layers");
    let gemma = train("Gemma 4", &gemma(), rows, length)?;
    let qwen = train("Qwen3.5", &qwen(), rows, length)?;
    println!("Qwen3.5 of Gemma 4: {:.2} speed, {:.2} memory", qwen.0 / gemma.0, qwen.1 / gemma.1);
    Ok(())
}

/// Tokens per second in the best update, and bytes.
fn train(
    name: &str,
    shape: &Value,
    rows: usize,
    length: usize,
) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("shape.json");
    std::fs::write(&config, shape.to_string())?;
    let made = synthesize(&config, folder.path(), Storage::Bf16, 0, &mut |_, _| ())?;
    let mut trainer = trainer(folder.path(), rows, length)?;
    trainer.update()?;
    memory::reset_peak_memory()?;
    let mut best = f64::MAX;
    for _ in 0..UPDATES {
        let start = Instant::now();
        trainer.update()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    let (speed, peak) = ((rows * length) as f64 / best, memory::peak_memory()? as f64);
    println!("{name}: {} weights, {speed:.0} tokens/s, {:.0} MB", made.weights, peak / 1e6);
    drop(trainer);
    memory::clear_cache()?;
    Ok((speed, peak))
}

fn trainer(
    folder: &Path,
    rows: usize,
    length: usize,
) -> Result<Trainer, Box<dyn std::error::Error>> {
    let model = Model::open_with(folder, WeightResidency::Dequantized)?;
    let config = TrainConfig {
        num_layers: Some(NumLayers::All),
        batch_size: rows,
        adapter_path: folder.join("run"),
        ..TrainConfig::default()
    };
    let row = |number: usize| Example {
        tokens: (0..=length as u32).map(|i| (i * i * 61 + number as u32) % VOCABULARY).collect(),
        trained: vec![length / 2..length + 1],
    };
    let train = Dataset::new("train", (0..rows).map(row), config.max_seq_length)?;
    Ok(Trainer::new(model, config, Data { train, valid: None }, Start::Afresh)?)
}
