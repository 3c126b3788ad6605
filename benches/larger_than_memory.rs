//! Trains a model that is larger than its memory limit.
//!
//! ```sh
//! cargo run --release -p nightshift-benches --example larger-than-memory -- llama-8b FOLDER [LIMIT]
//! cargo run --release -p nightshift-benches --example larger-than-memory -- gemma4-31b FOLDER [LIMIT]
//! ```
//!
//! Writes the checkpoint (random weights at 4 bits: 4.5 or 17.3 GB) to FOLDER unless it exists, prints
//! the plan for a row of 2,048 tokens, and then makes one forward pass and two updates: for the 8B
//! Llama with rank 16 on all layers and 512 tokens in 2.5 GB, for Gemma 4 31B with rank 64 on the last
//! 16 layers and 256 tokens in 8 GB.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use lora_train::memory::resident_memory;
use lora_train::metrics::{Event, Record};
use lora_train::{Bytes, Data, Dataset, Example, Progress, Start, TrainConfig, Trainer};
use mlx_rs::memory::{peak_memory, reset_peak_memory};
use models::layers::Rows;
use models::{Adapter, Model, Storage, WeightResidency, synthesize};
use nightshift_benches::Result;

/// A model with the settings of its run.
struct Case {
    name: &'static str,
    tokens: u32,
    num_layers: i64,
    rank: usize,
    limit: &'static str,
}

const CASES: [Case; 2] = [
    Case { name: "llama-8b", tokens: 512, num_layers: -1, rank: 16, limit: "2.5GB" },
    Case { name: "gemma4-31b", tokens: 256, num_layers: 16, rank: 64, limit: "8GB" },
];

/// The length of the row that the plan is printed for.
const LONG: u32 = 2048;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, folder, limit) = match arguments.as_slice() {
        [name, folder] => (name, folder, None),
        [name, folder, limit] => (name, folder, Some(limit.as_str())),
        _ => return Err("expected SHAPE FOLDER [LIMIT]".into()),
    };
    let Some(case) = CASES.iter().find(|case| case.name == name) else {
        let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
        return Err(format!("SHAPE: expected one of {}, found {name}", names.join(", ")).into());
    };
    let folder = Path::new(folder);
    if !folder.join("config.json").exists() {
        let shape = format!("{}/../fixtures/configs/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let storage = Storage::Packed { bits: 4, group_size: 64 };
        let made = synthesize(Path::new(&shape), folder, storage, 0, &mut |_, _| ())?;
        println!("{} weights, {} on disk", made.weights, Bytes(made.bytes));
    }
    let model = Model::open_with(folder, WeightResidency::Streamed)?;
    let run = tempfile::tempdir()?;
    let config = case.config(run.path(), limit.unwrap_or(case.limit))?;
    let planned = Trainer::plan(&model, &config, &data(&model, LONG)?);
    println!(
        "planned for {LONG} tokens: {}",
        planned.map_or_else(|e| e.to_string(), |p| p.to_string())
    );
    forward(&model, case)?;
    let data = data(&model, case.tokens)?;
    train(Trainer::new(model, config, data, Start::Fresh)?)
}

fn forward(model: &Model, case: &Case) -> Result<()> {
    let begun = Instant::now();
    reset_peak_memory()?;
    let tokens = &row(model, case.tokens).tokens[..case.tokens as usize];
    let hidden = model.hidden(tokens, &Rows::new([tokens.len()])?, &Adapter::none(model))?;
    hidden.eval()?;
    let (peak, resident) = (peak_memory()? as u64, resident_memory().unwrap_or_default());
    println!(
        "forward: {} tokens, {:.1} s, {} at the peak, {} of the process",
        tokens.len(),
        begun.elapsed().as_secs_f64(),
        Bytes(peak),
        Bytes(resident),
    );
    Ok(())
}

fn train(trainer: Trainer) -> Result<()> {
    let outcome = trainer.run(&mut |progress: Progress<'_>| {
        match progress {
            Progress::Recorded(Record::Event(Event::Plan { work, .. })) => println!("{work}"),
            Progress::Recorded(Record::Update(update)) => println!(
                "update {}: loss {:.4}, {:.1} s, {} at the peak, {} of the process",
                update.step,
                update.loss,
                update.seconds,
                Bytes(update.peak_memory_bytes),
                Bytes(update.rss_bytes),
            ),
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    let [expected, peak] =
        [outcome.estimated_memory_bytes, outcome.peak_memory_bytes].map(|bytes| bytes as f64);
    println!("estimate / peak: {:.3}", expected / peak);
    Ok(())
}

impl Case {
    fn config(&self, run: &Path, limit: &str) -> Result<TrainConfig> {
        let (Self { num_layers, rank, .. }, run) = (self, run.display());
        let yaml = format!(
            "
adapter_path: {run}
num_layers: {num_layers}
lora_parameters: {{ rank: {rank}, scale: 2.0 }}
batch_size: 1
iters: 2
max_seq_length: {}
nightshift: {{ memory_limit: {limit} }}
",
            LONG + 1
        );
        Ok(TrainConfig::from_yaml(&yaml, "larger-than-memory.yaml")?)
    }
}

fn data(model: &Model, tokens: u32) -> Result<Data> {
    let train = Dataset::new("train", [row(model, tokens)], LONG as usize + 1)?;
    Ok(Data { train, valid: None, retention: None })
}

fn row(model: &Model, tokens: u32) -> Example {
    let vocabulary = model.config().vocab_size as u32;
    Example::new(
        (0..=tokens).map(|i| i * 1013 % vocabulary).collect(),
        vec![1..tokens as usize + 1],
    )
}
