//! Time per token of single layers and of a whole update by length of the row, and MLX's peak memory
//! compared with the plan's estimate.
//!
//! ```sh
//! cargo run --release -p nightshift-benches --example growth -- [LENGTH...]
//! ```
//!
//! The model is a small Gemma 4: five of six layers have a sliding window of 512 tokens, the last has
//! full attention. One row, rank 8 on all layers.

use std::time::Instant;

use lora_train::{Bytes, Start, Trainer};
use mlx_rs::error::Exception;
use mlx_rs::{Array, memory, transforms};
use models::layers::{Flow, Layer, LayerAdapter, Rows};
use models::{Model, Storage, WeightResidency};
use nightshift_benches::{Result, random_model, run};
use serde_json::{Value, json};

const LENGTHS: [usize; 4] = [256, 1024, 4096, 16_384];
const SLIDING: usize = 0;
const FULL: usize = 5;
const REPEATS: usize = 3;

fn shape() -> Value {
    json!({
        "model_type": "gemma4_text", "vocab_size": 8192,
        "hidden_size": 256, "num_hidden_layers": 6, "intermediate_size": 1024,
        "num_attention_heads": 4, "num_key_value_heads": 2, "num_global_key_value_heads": 1,
        "head_dim": 64, "global_head_dim": 128, "sliding_window": 512,
        "sliding_window_pattern": 6, "attention_k_eq_v": true, "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 0,
    })
}

fn main() -> Result<()> {
    let lengths = std::env::args().skip(1).map(|word| word.parse());
    let mut lengths = lengths.collect::<Result<Vec<usize>, _>>()?;
    if lengths.is_empty() {
        lengths = LENGTHS.into();
    }
    println!(
        "{:>7} {:>12} {:>12} {:>12} {:>11} {:>11} {:>9}",
        "tokens", "window", "everything", "update", "peak", "planned", "planned/"
    );
    println!(
        "{:>7} {:>12} {:>12} {:>12} {:>11} {:>11} {:>9}",
        "", "us/token", "us/token", "us/token", "", "", "peak"
    );
    for length in lengths {
        let folder = tempfile::tempdir()?;
        let dense = WeightResidency::Dequantized;
        let model = random_model(folder.path(), &shape(), Storage::Bf16, dense)?;
        let [window, everything] = [SLIDING, FULL].map(|layer| both_ways(&model, layer, length));
        let (update, planned, peak) = update(model, folder.path(), length)?;
        println!(
            "{length:>7} {:>12.1} {:>12.1} {update:>12.1} {:>11} {:>11} {:>9.3}",
            window?,
            everything?,
            Bytes(peak).to_string(),
            Bytes(planned).to_string(),
            planned as f64 / peak as f64,
        );
        memory::clear_cache()?;
    }
    Ok(())
}

/// Microseconds per token of one layer forward and backward, in the fastest of [`REPEATS`] runs.
fn both_ways(model: &Model, layer: usize, length: usize) -> Result<f64> {
    let tokens: Vec<u32> = (0..length as u32).map(|i| i * 7 % 256).collect();
    let (flow, batch) = model.embed(&tokens, &Rows::new([length])?, &LayerAdapter::default())?;
    let layer: &Layer = &model.layers()[layer];
    let inputs = flow.into_arrays();
    let forward = |arrays: &[Array]| {
        let flow = Flow::from_arrays(arrays.iter().cloned());
        let flow = flow.ok_or_else(|| Exception::custom("no hidden states"))?;
        Ok(layer.forward(&flow, &batch, &LayerAdapter::default())?.into_arrays())
    };
    let mut best = f64::MAX;
    for _ in 0..REPEATS {
        let begun = Instant::now();
        let (_, gradients) = transforms::fallible_vjp(forward, &inputs, &inputs)?;
        transforms::eval(&gradients)?;
        best = best.min(begun.elapsed().as_secs_f64());
    }
    Ok(best / length as f64 * 1e6)
}

/// Microseconds per token of the fastest update, and peak memory in bytes as planned and as measured.
fn update(model: Model, folder: &std::path::Path, length: usize) -> Result<(f64, u64, u64)> {
    memory::reset_peak_memory()?;
    let (mut config, data) = run(&model, folder, 1, length)?;
    config.nightshift.lanes = Some(1);
    let planned = Trainer::plan(&model, &config, &data)?.estimated_memory_bytes;
    let mut trainer = Trainer::new(model, config, data, Start::Fresh)?;
    let mut best = f64::MAX;
    for _ in 0..REPEATS {
        let begun = Instant::now();
        trainer.update()?;
        best = best.min(begun.elapsed().as_secs_f64());
    }
    Ok((best / length as f64 * 1e6, planned, memory::peak_memory()? as u64))
}
