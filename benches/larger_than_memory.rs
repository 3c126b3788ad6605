//! Trains a model that is larger than the memory it is given: an 8B Llama at 4 bits, rank 16 on all
//! layers, 512 tokens an update, in 2.5 GB.
//!
//! ```sh
//! cargo run --release -p nightshift-benches --example larger-than-memory -- FOLDER [LIMIT]
//! ```
//!
//! The checkpoint (4.5 GB of random weights) is written into FOLDER first, unless it is there.

use std::ops::ControlFlow;
use std::path::Path;

use lora_train::metrics::{Event, Record};
use lora_train::{Bytes, Data, Dataset, Example, Progress, Start, TrainConfig, Trainer};
use models::{Model, Storage, WeightResidency, synthesize};

const SHAPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/configs/llama-8b.json");
const TOKENS: u32 = 512;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, limit) = match arguments.as_slice() {
        [folder] => (folder, "2.5GB"),
        [folder, limit] => (folder, limit.as_str()),
        _ => return Err("expected FOLDER [LIMIT]".into()),
    };
    let folder = Path::new(folder);
    if !folder.join("config.json").exists() {
        let storage = Storage::Packed { bits: 4, group_size: 64 };
        let made = synthesize(Path::new(SHAPE), folder, storage, 0, &mut |_, _| ())?;
        println!("{} weights, {} on disk", made.weights, Bytes(made.bytes));
    }
    let run = tempfile::tempdir()?;
    let yaml = format!(
        "
adapter_path: {}
num_layers: -1
lora_parameters: {{ rank: 16, scale: 2.0 }}
batch_size: 1
iters: 2
nightshift: {{ memory_limit: {limit} }}
",
        run.path().display()
    );
    let config = TrainConfig::from_yaml(&yaml, "larger-than-memory.yaml")?;
    let row = Example {
        tokens: (0..=TOKENS).map(|i| i * 1013 % 128_256).collect(),
        trained: vec![1..TOKENS as usize + 1],
    };
    let data = Data { train: Dataset::new("train", [row], 2048)?, valid: None };
    let model = Model::open_with(folder, WeightResidency::Streamed)?;
    let trainer = Trainer::new(model, config, data, Start::Afresh)?;
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
