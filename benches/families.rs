//! Trains a model of each family, with about equal numbers of weights, on the same rows: tokens per
//! second and MLX's peak memory.
//!
//! ```sh
//! cargo run --release -p nightshift-benches --example families -- [ROWS LENGTH]
//! ```

use std::time::Instant;

use lora_train::{Start, Trainer};
use mlx_rs::memory;
use models::{Storage, WeightResidency};
use nightshift_benches::{Family, Result, random_model, run};

const UPDATES: usize = 5;

fn main() -> Result<()> {
    let arguments = std::env::args().skip(1).map(|word| word.parse::<usize>());
    let (rows, length) = match arguments.collect::<Result<Vec<_>, _>>()?.as_slice() {
        [] => (8, 512),
        &[rows, length] => (rows, length),
        _ => return Err("expected ROWS LENGTH".into()),
    };
    println!("{UPDATES} updates of {rows} rows of {length} tokens, rank 8 on all layers");
    let results = Family::ALL.map(|family| train(family, rows, length));
    let [llama, gemma, qwen] = results;
    let (_, gemma, qwen) = (llama?, gemma?, qwen?);
    println!("Qwen3.5 of Gemma 4: {:.2} speed, {:.2} memory", qwen.0 / gemma.0, qwen.1 / gemma.1);
    Ok(())
}

/// Tokens per second of the fastest update, and peak memory in bytes.
fn train(family: Family, rows: usize, length: usize) -> Result<(f64, f64)> {
    let folder = tempfile::tempdir()?;
    let dense = WeightResidency::Dequantized;
    let model = random_model(folder.path(), &family.shape(), Storage::Bf16, dense)?;
    let weights = model.config().num_weights();
    let (config, data) = run(&model, folder.path(), rows, length)?;
    let mut trainer = Trainer::new(model, config, data, Start::Fresh)?;
    trainer.update()?;
    memory::reset_peak_memory()?;
    let mut best = f64::MAX;
    for _ in 0..UPDATES {
        let start = Instant::now();
        trainer.update()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    let (speed, peak) = ((rows * length) as f64 / best, memory::peak_memory()? as f64);
    println!("{}: {weights} weights, {speed:.0} tokens/s, {:.0} MB", family.name(), peak / 1e6);
    drop(trainer);
    memory::clear_cache()?;
    Ok((speed, peak))
}
